import { ShiftvolError } from '../errors.ts';

/** Control-C and a polite kill end the work, and what was begun is undone; a second one ends the process, and `recover` undoes then. */
export function stopOnSignals(): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const stop = (): void => controller.abort(new ShiftvolError('SV_CANCELLED', 'Cancelled by a signal'));
  process.once('SIGINT', stop).once('SIGTERM', stop);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      process.removeListener('SIGINT', stop).removeListener('SIGTERM', stop);
    },
  };
}
