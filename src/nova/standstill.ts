/** For how long an instance that moved was down: one number, from the beginning of its stop to its start at the other host. */
import { explain } from '../errors.ts';
import { refOf } from './instances.ts';
import type { NovaInstance } from './model.ts';
import type { Call, Departure, Nova } from './ports.ts';

/** What Nova's driver is answered, and drops. */
export type Standstill = { readonly down_ms: number };

/**
 * Told in the log, on the bus, and of the instance's root from now on. By the clocks of both hosts, which an OpenStack keeps together: what
 * Nova does between the two calls counts too, and neither host sees it.
 */
export async function tellStandstill(
  nova: Nova,
  instance: NovaInstance,
  { source, downSince }: Omit<Departure, 'instance'>,
  facts: object,
  { signal }: Call,
): Promise<Standstill> {
  const downMs = Math.max(0, Date.now() - downSince);
  const about = { instance: instance.uuid, down_ms: downMs, ...facts };
  if (source === nova.host) nova.log.info('resized: it is up again', about);
  else {
    nova.log.info(`moved here from "${source}": it is up again`, about);
    // It runs: that nobody can be told for how long it did not, is no failure of the move.
    await nova.engine.noteMove({ instance: refOf(instance), from: source, downMs }, signal).catch((error: unknown) => {
      nova.log.warn(`how long it was down could not be noted: ${explain(error)}`, about);
    });
  }
  return { down_ms: downMs };
}
