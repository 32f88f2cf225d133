import { ShiftvolError } from '../errors.ts';

const SQLITE_BUSY = 5;

/** What SQLite or the disk says, as SV_LOCKED or SV_STORE; an error of ours as it is. */
export function storeError(path: string, cause: unknown): ShiftvolError {
  if (cause instanceof ShiftvolError) return cause;
  if (cause instanceof Error && 'errcode' in cause && cause.errcode === SQLITE_BUSY)
    return new ShiftvolError(
      'SV_LOCKED',
      `Cannot open the journal "${path}": another shiftvol works on this state directory`,
      {
        remedy: 'wait for it, or use another --state-dir',
        cause,
      },
    );
  return new ShiftvolError('SV_STORE', `Cannot use the journal "${path}"`, {
    remedy: 'look at the disk (full? read-only?) and at the owner of the directory',
    cause,
  });
}
