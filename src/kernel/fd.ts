import { closeSync, openSync } from 'node:fs';
import type { Branded } from '../brand.ts';

export type Fd = Branded<number, 'Fd'>;
/** A mount that is in no mount table yet, or a handle on one that is. From fsmount(2) or open_tree(2). */
export type MountFd = Branded<number, 'MountFd'>;
/** A user namespace: /proc/PID/ns/user. */
export type UsernsFd = Branded<number, 'UsernsFd'>;

/** Owns a descriptor: whoever opened it disposes of it; who is handed `fd` borrows. Disposing twice is harmless. */
export class Owned<T extends number> implements Disposable {
  readonly fd: T;
  #open = true;

  constructor(fd: number) {
    this.fd = fd as T;
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }
}

/** open(2) with close on exec, as Node does it; the caller owns the result. */
export function open(path: string, flags: number | string, mode?: number): Owned<Fd> {
  return new Owned<Fd>(openSync(path, flags, mode));
}
