/** What is done with a message whose command failed. Pure. */
import type { Command } from '../engine/model.ts';
import { asError, CODES, explain, type ShiftvolError } from '../errors.ts';
import type { IgnoredReason } from '../events/happening.ts';

export type Verdict =
  | { readonly kind: 'ignore'; readonly reason: IgnoredReason }
  | { readonly kind: 'retry'; readonly error: ShiftvolError }
  | { readonly kind: 'bury'; readonly error: ShiftvolError };

/**
 * `wildcard`: the binding was "*". `attempts`: how often it was put aside already.
 * Not there to be detached, destroyed or extended: somebody took it away before us, or never made it. An instance or device that an attach needs may
 * come a little later: Cinder tells of volumes given at boot before the container exists.
 */
export function judge(
  thrown: unknown,
  command: Command,
  options: { wildcard: boolean; attempts: number; maxAttempts: number },
): Verdict {
  const error = asError(thrown);
  const { action } = command;
  const ofWhatIsThere = action === 'detach' || action === 'destroy' || action === 'extend';
  if (ofWhatIsThere && (error.code === 'SV_ATTACHMENT_NOT_FOUND' || error.code === 'SV_INSTANCE_NOT_FOUND'))
    return { kind: 'ignore', reason: 'nothing-there' };
  if (options.wildcard && error.code === 'SV_TEMPLATE_NOT_FOUND') return { kind: 'ignore', reason: 'no-template' };
  const late = action === 'attach' && (error.code === 'SV_INSTANCE_NOT_FOUND' || error.code === 'SV_VOLUME_NOT_FOUND');
  const again = (CODES[error.code].retry || late) && options.attempts < options.maxAttempts;
  return { kind: again ? 'retry' : 'bury', error };
}

/** For a header: one line, of a length that any AMQP frame takes. */
export function reasonText(error: ShiftvolError): string {
  return explain(error).slice(0, 1000);
}
