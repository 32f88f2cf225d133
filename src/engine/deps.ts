import type { Allocator } from './allocator.ts';
import type { Backend, Journal, Mounter, Runtime } from './ports.ts';
import type { WrapStep } from './saga.ts';
import type { Spares } from './spares.ts';
import type { Connections, Freezer, SavedImages, VolumeCopier, VolumeService } from './volume-ports.ts';

/** All that the engine works with. */
export type EngineDeps = {
  /** This host's name, as Nova knows it. */
  readonly host: string;
  /** Directory of what a reboot takes away: `/run/shiftvol`. */
  readonly runDir: string;
  /** Commands at once, over all instances. */
  readonly parallel: number;
  /** How long writing may stand still, unless told otherwise. */
  readonly freezeDeadlineMs: number;
  /** How long at most, for a volume of a running instance that is copied to another. */
  readonly copyFreezeMs: number;
  readonly journal: Journal;
  readonly backend: Backend;
  readonly connections: Connections;
  /** For volumes that are asked for by name. */
  readonly volumes?: VolumeService;
  readonly saved: SavedImages;
  readonly freezer: Freezer;
  readonly copier: VolumeCopier;
  readonly mounter: Mounter;
  readonly runtimes: readonly Runtime[];
  readonly allocator: Allocator;
  /** Snapshots that are ready beforehand, where that was asked for. */
  readonly spares?: Spares;
  readonly wrapStep?: WrapStep;
};
