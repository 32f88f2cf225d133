import type { FsType } from '../engine/model.ts';
import type { BlockDevice } from '../engine/ports.ts';
import type { ImageFacts } from './superblock.ts';

/** A device that is kept alive by a descriptor until it is disposed of. */
export class OpenedDevice implements BlockDevice {
  readonly path: string;
  readonly devno: string;
  readonly fsType: FsType;
  readonly uuid: string;
  /** Somebody had it in use already when it was opened: it may be found mounted, but must not be mounted again. */
  readonly found: boolean;
  readonly #keptBy: Disposable;

  constructor(
    at: { path: string; devno: string },
    facts: Pick<ImageFacts, 'fsType' | 'uuid'>,
    found: boolean,
    keptBy: Disposable,
  ) {
    this.path = at.path;
    this.devno = at.devno;
    this.fsType = facts.fsType;
    this.uuid = facts.uuid;
    this.found = found;
    this.#keptBy = keptBy;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#keptBy[Symbol.dispose]();
  }
}
