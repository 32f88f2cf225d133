/** What keeps the agent small: it waits most of its life, on hosts whose memory belongs to the containers. */
import { channel } from 'node:diagnostics_channel';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { stepChannel } from '../engine/saga.ts';
import { unmapProgram } from '../kernel/own-memory.ts';

/** Told when something other than a step took memory that is not needed any more. */
export const burstChannel = channel('shiftvol.burst');

/** A burst has ended when nothing was done for so long. */
const QUIET_MS = 2000;

/**
 * To be called before the agent's modules are loaded.
 * - The young generation stays as small as it begins: over 1,600 rounds of spawn and destroy the heap went from 24 to 26 MiB, without
 *   this to 46, and V8 gives nothing back.
 * - An import of node:http reads every export, among them three that load undici (13 MiB), which nothing here uses.
 */
export function startSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  const http = process.getBuiltinModule('node:http');
  for (const name of ['WebSocket', 'CloseEvent', 'MessageEvent'])
    Object.defineProperty(http, name, { value: undefined });
}

/**
 * Gives memory back when a burst has ended, and now, for what the start took: V8 collects when it needs room, which an idle process
 * never does. A collection takes some 20 ms (measured: 12 of 98 MiB after the start). Of the 54 MiB of Node's own code and constants that a
 * start touches 19 are used later; taking them away is 7 ms more, and the first spawn afterwards takes no longer (measured: 36 ms of 36).
 * Returns the way to stop that.
 */
export function giveBackWhenQuiet(): Disposable {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as NodeJS.GCFunction;
  const give = () => {
    collect({ type: 'major', flavor: 'last-resort' });
    unmapProgram();
  };
  const timer = setTimeout(give, QUIET_MS).unref();
  const onStep = () => void timer.refresh();
  stepChannel.subscribe(onStep);
  burstChannel.subscribe(onStep);
  return {
    [Symbol.dispose]() {
      clearTimeout(timer);
      stepChannel.unsubscribe(onStep);
      burstChannel.unsubscribe(onStep);
    },
  };
}
