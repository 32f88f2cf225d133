import type { BlockDevice } from '../engine/ports.ts';
import type { MountFd, Owned } from '../kernel/fd.ts';
import { guardUnseen } from './guard.ts';

/** A device whose file system is mounted already, where nobody sees it and without a map. Disposing lets go of both. */
export class StagedDevice implements BlockDevice {
  readonly path: string;
  readonly devno: string;
  readonly fsType: BlockDevice['fsType'];
  readonly uuid: string;
  readonly #device: BlockDevice;
  readonly #mount: Owned<MountFd>;
  #isTaken = false;

  constructor(device: BlockDevice, mount: Owned<MountFd>) {
    ({ path: this.path, devno: this.devno, fsType: this.fsType, uuid: this.uuid } = device);
    this.#device = device;
    this.#mount = mount;
  }

  /** MOUNT_ATTR flags of the mount. */
  get attributes(): number {
    return guardUnseen(this.fsType).attributes;
  }

  /** The mount, which is the caller's then; once only. */
  take(): Owned<MountFd> | undefined {
    if (this.#isTaken) return undefined;
    this.#isTaken = true;
    return this.#mount;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.take()?.[Symbol.dispose]();
    await this.#device[Symbol.asyncDispose]();
  }
}
