/** Looks again and again, and shows what has become of it: for `list --watch`. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ShiftvolError } from '../errors.ts';
import { stopOnSignals } from './signals.ts';

/** Up, and clear from there on: nothing flickers, and what was above stays to be scrolled to. */
const HOME = '\x1b[H\x1b[J';

/** `0.5` to `3600` seconds, as milliseconds. @throws SV_USAGE */
export function intervalMs(text: string | true): number {
  const seconds = text === true ? 2 : Number(text);
  if (Number.isFinite(seconds) && seconds >= 0.1 && seconds <= 3600) return seconds * 1000;
  throw new ShiftvolError('SV_USAGE', `Cannot read --watch ${JSON.stringify(text)}: accepted are 0.1 to 3600 seconds`, {
    field: '--watch',
  });
}

/** Until a signal. In a terminal each look takes the place of the last; elsewhere what is the same as before is not told again. */
export async function watch(everyMs: number, look: () => Promise<string>): Promise<void> {
  using stop = stopOnSignals();
  const { isTTY } = process.stdout;
  if (isTTY) process.stdout.write('\x1b[2J');
  let last: string | undefined;
  while (!stop.signal.aborted) {
    const text = await look();
    if (isTTY) process.stdout.write(`${HOME}${new Date().toLocaleTimeString()}\n${text}\n`);
    else if (text !== last) process.stdout.write(`${text}\n`);
    last = text;
    await sleep(everyMs, undefined, { signal: stop.signal }).catch(() => undefined); // only a signal ends it early
  }
}
