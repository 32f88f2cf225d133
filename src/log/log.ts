import winston from 'winston';
import { type StepMessage, stepChannel } from '../engine/saga.ts';
import { explain } from '../errors.ts';

/** What the parts of the agent log with: a text, and facts by name. Never a secret, never a message's body. */
export type Log = {
  debug(text: string, facts?: object): void;
  info(text: string, facts?: object): void;
  warn(text: string, facts?: object): void;
  error(text: string, facts?: object): void;
};

export type LogOptions = { readonly level: 'debug' | 'info' | 'warn' | 'error'; readonly json: boolean };

/** To standard error: one JSON object a line, or in oslo.log's manner `time pid LEVEL shiftvol [req-… ] [instance: …] text key=value`. */
export function createLog({ level, json }: LogOptions): Log {
  const { combine, timestamp, printf, json: asJson } = winston.format;
  return winston.createLogger({
    level,
    format: combine(timestamp(), json ? asJson() : printf(line)),
    transports: [new winston.transports.Console({ stderrLevels: ['error', 'warn', 'info', 'debug'] })],
  });
}

/** Logs every step of every saga, at debug; one that failed at warn. Returns the way to stop that. */
export function logSteps(log: Log): () => void {
  const onStep = (message: unknown): void => {
    const { attachment, instance, step, ms, error } = message as StepMessage;
    const facts = { instance, attachment, step, ms };
    if (error === undefined) log.debug(`step "${step}" done`, facts);
    else log.warn(`step "${step}" failed: ${explain(error)}`, facts);
  };
  stepChannel.subscribe(onStep);
  return () => stepChannel.unsubscribe(onStep);
}

function line({ timestamp, level, message, request_id, instance, ...facts }: Record<string, unknown>): string {
  const request = request_id === undefined ? '-' : String(request_id);
  const where = instance === undefined ? '' : ` [instance: ${String(instance)}]`;
  const rest = Object.entries(facts).map(
    ([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  return `${String(timestamp)} ${process.pid} ${String(level).toUpperCase()} shiftvol [${request}]${where} ${String(message)}${rest.join('')}`;
}
