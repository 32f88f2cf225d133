import type { Connection } from '../../engine/model.ts';
import type { ImageRef } from '../../engine/ports.ts';
import type { Secrets } from '../../engine/secrets.ts';
import { ShiftvolError } from '../../errors.ts';

/** What every connector works with. */
export type ConnectEnv = {
  /** Directory of what a reboot takes away: `/run/shiftvol`. */
  readonly runDir: string;
  /** `/proc`, `/sys`; others for tests of what is read there. */
  readonly procRoot: string;
  readonly sysRoot: string;
  /** Use all the paths that a service gives, through dm-multipath or the kernel's own NVMe multipath. */
  readonly multipath: boolean;
  /** Where a volume may be that is on this host anyway: directories, and `/dev/mapper/cinder-*`. */
  readonly localPaths: readonly string[];
};

/**
 * One way to reach volumes. Every method may be called again with the same connection at any time, also after a crash in the middle of
 * the last call; calls for one connection never overlap.
 */
export interface Connector {
  connect(connection: Connection, options: { secrets: Secrets; signal?: AbortSignal | undefined }): Promise<ImageRef>;
  /** What is here of it, verified to be this volume; undefined: nothing. */
  find(connection: Connection, signal?: AbortSignal): Promise<ImageRef | undefined>;
  disconnect(connection: Connection, signal?: AbortSignal): Promise<void>;
  /** Makes this host see the volume's new size. */
  rescan(connection: Connection, signal?: AbortSignal): Promise<void>;
}

export function cannotConnect(connection: Connection, what: string, cause?: unknown, remedy?: string): ShiftvolError {
  return new ShiftvolError('SV_CONNECTION', `Cannot connect volume "${connection.name}": ${what}`, {
    ...(remedy === undefined ? {} : { remedy }),
    ...(cause === undefined ? {} : { cause }),
  });
}

export function stillUsed(connection: Connection, what: string, cause?: unknown): ShiftvolError {
  return new ShiftvolError('SV_BUSY', `Cannot let go of volume "${connection.name}": ${what}`, {
    remedy: 'end what uses it; shiftvol recover goes on then',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** A text among the facts; every connector wrote its own, so that a missing one is a fault of ours or a journal that was edited. */
export function textFact({ facts, name }: Connection, key: string): string {
  const value = facts[key];
  if (typeof value === 'string') return value;
  throw new ShiftvolError('SV_CONNECTION', `Cannot use the connection of "${name}": it has no "${key}"`);
}

/** A list of texts among the facts; none is an empty one. */
export function listFact({ facts }: Connection, key: string): readonly string[] {
  const value = facts[key];
  return typeof value === 'object' ? value : [];
}
