import type { Run } from '../engine/recent-runs.ts';
import type { DefineCommand, GlobalOptions } from './command.ts';
import type { TopFacts, TopSource } from './top-facts.ts';
import type { Sort } from './top-screen.ts';

type Options = GlobalOptions & { readonly once?: boolean };

const EVERY_MS = 1000;
/** Lines of the largest terminal that anybody has. */
const MOST_LAST = 100;

export const define: DefineCommand = program => {
  program
    .command('top')
    .summary('watch what the agent of this host does')
    .option('--once', 'look for one second, print it, and end')
    .addHelpText(
      'after',
      '\nRates and times of the last minute, states, bus, ids, pool, and what was done last. The agent tells it while somebody looks, and keeps\nnothing. Keys: q ends it, p pauses it, s sorts the steps. With --json an object a line and second; "agent" is null while there is none.\nExit status: 1 where no agent runs.\n\nExamples:\n  shiftvol top\n  shiftvol top --json | jq -c "[.at, .states.attached, .bus.waiting]"',
    )
    .action(async (_options, command) => {
      const options: Options = command.optsWithGlobals();
      const [{ loadConfig }, { TopSource }, { stopOnSignals }] = await Promise.all([
        import('../config/load.ts'),
        import('./top-facts.ts'),
        import('./signals.ts'),
      ]);
      using stop = stopOnSignals();
      const config = loadConfig(options);
      const source = new TopSource(config);
      const first = (await source.look(stop.signal)) ?? (await nobody(config.runDir));
      if (options.once) return await once(source, options, stop.signal);
      if (options.json) return await lines(source, first, stop.signal);
      await watch(source, first, stop.signal);
    });
};

async function nobody(runDir: string): Promise<never> {
  const [{ ShiftvolError }, { socketPath }] = await Promise.all([import('../errors.ts'), import('./engine-client.ts')]);
  throw new ShiftvolError('SV_AGENT', `Cannot hear from the agent at "${socketPath(runDir)}": nobody listens there`, {
    remedy: 'start it: shiftvol serve',
  });
}

/** The first look began it: what happened since is known now. */
async function once(source: TopSource, options: Options, signal: AbortSignal): Promise<void> {
  const { print } = await import('./output.ts');
  const { screen } = await import('./top-screen.ts');
  await pause(signal);
  const facts = await source.look(signal);
  if (facts === undefined) return;
  const columns = process.stdout.columns ?? 120;
  const all = { last: facts.ended.toReversed(), sort: 'time', columns, rows: Number.POSITIVE_INFINITY } as const;
  print(options, facts, f => screen({ facts: f, ...all }).join('\n'));
}

/** Until a signal. An agent that is started anew is waited for: that is when people look. */
async function lines(source: TopSource, first: TopFacts, signal: AbortSignal): Promise<void> {
  let facts: TopFacts | undefined = first;
  while (!signal.aborted) {
    process.stdout.write(`${JSON.stringify(facts ?? { at: new Date().toISOString(), agent: null })}\n`);
    await pause(signal);
    facts = await lookOrNothing(source, signal);
  }
}

async function watch(source: TopSource, first: TopFacts, signal: AbortSignal): Promise<void> {
  const [{ openTerminal }, { SORTS, screen }, { ShiftvolError }] = await Promise.all([
    import('./terminal.ts'),
    import('./top-screen.ts'),
    import('../errors.ts'),
  ]);
  if (!process.stdout.isTTY)
    throw new ShiftvolError('SV_USAGE', 'Cannot draw: standard output is no terminal, --json and --once need none');
  const quit = new AbortController();
  const over = AbortSignal.any([signal, quit.signal]);
  let [latest, facts] = [first, first];
  let [heard, last]: [readonly Run[], readonly Run[]] = [[], []];
  let sort: Sort = 'time';
  let paused = false;
  let gone = false;
  const redraw = () => {
    const notice = gone ? 'the agent does not answer; waiting for it' : paused ? 'paused: p goes on' : undefined;
    const { columns, rows } = terminal;
    terminal.draw(screen({ facts, last, sort, columns, rows, ...(notice !== undefined && { notice }) }));
  };
  const key = (pressed: string) => {
    if (pressed === 'q' || pressed === '\x03') quit.abort();
    else if (pressed === 'p') paused = !paused;
    else if (pressed === 's') sort = SORTS[(SORTS.indexOf(sort) + 1) % SORTS.length] ?? 'time';
    redraw();
  };
  const input = process.stdin.isTTY ? process.stdin : undefined;
  using terminal = openTerminal(process.stdout, input, { key, resized: redraw });
  while (!over.aborted) {
    redraw();
    await pause(over);
    const found = await lookOrNothing(source, over);
    gone = found === undefined;
    heard = [...(found?.ended.toReversed() ?? []), ...heard].slice(0, MOST_LAST);
    if (found) latest = found;
    if (!paused) [facts, last] = [latest, heard];
  }
}

/** Nothing where no agent answers in this moment. */
async function lookOrNothing(source: TopSource, signal: AbortSignal): Promise<TopFacts | undefined> {
  const { isError } = await import('../errors.ts');
  try {
    return await source.look(signal);
  } catch (error) {
    if (signal.aborted || isError(error, 'SV_AGENT')) return undefined;
    throw error;
  }
}

async function pause(signal: AbortSignal): Promise<void> {
  const { setTimeout: sleep } = await import('node:timers/promises');
  await sleep(EVERY_MS, undefined, { signal }).catch(() => undefined); // only a signal or a key ends it early
}
