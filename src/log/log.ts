import { styleText } from 'node:util';
import winston from 'winston';
import { type StepMessage, stepChannel } from '../engine/saga.ts';
import { explain } from '../errors.ts';
import { aboutNow, keepContext } from './context.ts';

/** What the parts of the agent log with: a text, and facts by name. Never a secret, never a message's body. */
export type Log = {
  debug(text: string, facts?: object): void;
  info(text: string, facts?: object): void;
  warn(text: string, facts?: object): void;
  error(text: string, facts?: object): void;
};
export type LogLevel = keyof Log;

/**
 * `json`: one object a line. `text`: in oslo.log's manner, `time pid LEVEL shiftvol [req-…] [instance: …] text key=value`. `pretty`: for a
 * person at a terminal. Whatever was logged, it is one line.
 */
export type LogFormat = 'json' | 'text' | 'pretty';
export type LogOptions = { readonly level: LogLevel; readonly format: LogFormat };

/** To standard error. Each line says what request it belongs to, where it belongs to one. */
export function createLog({ level, format }: LogOptions): Log {
  const { combine, timestamp, printf, json } = winston.format;
  const shape = { json: json(), text: printf(textLine), pretty: printf(prettyLine) };
  return winston.createLogger({
    level,
    format: combine(withContext(), timestamp(), shape[format]),
    transports: [new winston.transports.Console({ stderrLevels: ['error', 'warn', 'info', 'debug'] })],
  });
}

/** Options of the command line go before the configuration; a person at a terminal gets what is made for him. */
export function logOptions(
  configured: { readonly level: LogLevel; readonly format: LogFormat | null },
  { verbose = false, json = false }: { readonly verbose?: boolean; readonly json?: boolean },
): LogOptions {
  const usual = process.stderr.isTTY ? 'pretty' : 'text';
  return { level: verbose ? 'debug' : configured.level, format: json ? 'json' : (configured.format ?? usual) };
}

/** Logs every step of every saga, at debug; one that failed at warn. Lines know their request from here on. Disposing ends both. */
export function logSteps(log: Log): Disposable {
  const onStep = (message: unknown): void => {
    const { attachment, instance, step, ms, error } = message as StepMessage;
    const facts = { instance, attachment, step, ms };
    if (error === undefined) log.debug(`step "${step}" done`, facts);
    else log.warn(`step "${step}" failed: ${explain(error)}`, facts);
  };
  const context = keepContext();
  stepChannel.subscribe(onStep);
  return {
    [Symbol.dispose]() {
      stepChannel.unsubscribe(onStep);
      context[Symbol.dispose]();
    },
  };
}

type Info = Readonly<Record<string, unknown>>;

/** What a line says of itself goes before what is known of its request. */
const withContext = winston.format(info => {
  for (const [key, value] of Object.entries(aboutNow())) info[key] ??= value;
  return info;
});

function textLine({ timestamp, level, message, request_id, instance, ...facts }: Info): string {
  const request = request_id === undefined ? '-' : plain(request_id);
  const where = instance === undefined ? '' : ` [instance: ${plain(instance)}]`;
  return `${String(timestamp)} ${process.pid} ${String(level).toUpperCase()} shiftvol [${request}]${where} ${plain(message)}${pairs(facts)}`;
}

const COLOURS = { debug: 'gray', info: 'green', warn: 'yellow', error: 'red' } as const satisfies Record<
  LogLevel,
  string
>;

/** The time of day, and no process id: there is one that one looks at. */
function prettyLine({ timestamp, level, message, ...facts }: Info): string {
  const paint = (style: Parameters<typeof styleText>[0], text: string) =>
    styleText(style, text, { stream: process.stderr });
  const name = String(level) as LogLevel; // of a logger with no other levels
  const time = String(timestamp).slice(11, 23);
  return `${paint('gray', time)} ${paint(COLOURS[name], name.toUpperCase().padEnd(5))} ${plain(message)}${paint('gray', pairs(facts))}`;
}

const pairs = (facts: Info): string =>
  Object.entries(facts)
    .map(([key, value]) => (value === undefined ? '' : ` ${key}=${plain(value)}`))
    .join('');

/** Names and reasons come from outside: none of them ends a line, or moves a terminal's cursor. */
function plain(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  return text.replace(/\p{Cc}/gu, c => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
