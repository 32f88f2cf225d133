/**
 * Where a template is made before it has its name. Complete, it is renamed; interrupted, it is garbage that says so by its name, and
 * the next import or recover takes it away. Alive is a staging whose directory somebody has locked: the kernel lets go of that lock
 * whatever way a process ends.
 */
import {
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShiftvolError } from '../../errors.ts';
import { isErrno, isNodeErrno } from '../../kernel/errno.ts';
import { type Fd, type Owned, open } from '../../kernel/fd.ts';
import { tryLock } from '../../kernel/file-lock.ts';
import { FS_IMMUTABLE_FL, getInodeFlags, setInodeFlags } from '../../kernel/inode-flags.ts';
import { entries } from '../clone.ts';
import type { Layout } from '../layout.ts';

const UNFINISHED = /^\.(import|remove)-/;
const LOCK_WAIT_MS = 10_000;

export class Staging implements Disposable {
  readonly directory: string;
  readonly #at: Layout;
  readonly #name: string;
  readonly #lock: Owned<Fd>;
  #published = false;

  constructor(at: Layout, name: string, directory: string, lock: Owned<Fd>) {
    this.#at = at;
    this.#name = name;
    this.directory = directory;
    this.#lock = lock;
  }

  path(file: 'image' | 'work' | 'source' | 'template.json'): string {
    return join(this.directory, file);
  }

  /** Everything is on the disk before the name is, so that a power cut leaves a whole template or none. */
  async publish(metadata: string, signal?: AbortSignal): Promise<void> {
    writeFileSync(this.path('template.json'), metadata, { mode: 0o400, flush: true });
    sync(this.directory);
    await withPoolLock(this.#at, signal, () => {
      mustBeNew(this.#at, this.#name);
      mkdirSync(this.#at.snapshotDir(this.#name), { recursive: true, mode: 0o700 });
      sync(this.#at.snapshots);
      renameSync(this.directory, this.#at.templateDir(this.#name));
      sync(this.#at.templates);
      this.#published = true;
    });
  }

  [Symbol.dispose](): void {
    if (!this.#published) discard(this.directory);
    this.#lock[Symbol.dispose]();
  }
}

/** @throws SV_TEMPLATE_EXISTS; SV_LOCKED: this template is being imported at this moment */
export async function openStaging(at: Layout, name: string, signal?: AbortSignal): Promise<Staging> {
  mkdirSync(at.templates, { recursive: true, mode: 0o700 });
  return await withPoolLock(at, signal, () => {
    mustBeNew(at, name);
    discardStale(at);
    const directory = join(at.templates, `.import-${name}`);
    try {
      mkdirSync(directory, { mode: 0o700 });
    } catch (error) {
      if (!isNodeErrno(error, 'EEXIST')) throw error;
      throw new ShiftvolError('SV_LOCKED', `Cannot import template "${name}": another import of this name is running`);
    }
    const lock = open(directory, constants.O_RDONLY);
    tryLock(lock.fd, 'exclusive', directory);
    return new Staging(at, name, directory, lock);
  });
}

/** Takes away what interrupted imports and removals left. For recover. Returns the names, without their directories. */
export async function cleanTemplates(at: Layout, signal?: AbortSignal): Promise<readonly string[]> {
  if (!existsSync(at.templates)) return [];
  return await withPoolLock(at, signal, () => {
    // A removal that was cut off before the template's renaming is undone: the template is there, so are its snapshots' directories.
    for (const name of entries(at.templates)) mkdirSync(at.snapshotDir(name), { recursive: true, mode: 0o700 });
    return discardStale(at);
  });
}

/** One at a time over all processes, for moments: making, renaming and clearing directories, never the work in them. */
export async function withPoolLock<T>(at: Layout, signal: AbortSignal | undefined, work: () => T): Promise<T> {
  using lock = open(at.lock, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  const deadline = performance.now() + LOCK_WAIT_MS;
  while (!tryLock(lock.fd, 'exclusive', at.lock)) {
    if (performance.now() > deadline)
      throw new ShiftvolError('SV_LOCKED', `Cannot change ${at.templates}: another shiftvol holds its lock`);
    await sleep(5, undefined, { signal });
  }
  return work();
}

/** Deletes a directory that holds a template's files, and nothing else: not recursive. Files already gone are no failure. */
export function discard(directory: string): void {
  for (const name of readdirSync(directory)) {
    const file = join(directory, name);
    setImmutable(file, false);
    unlinkSync(file);
  }
  rmdirSync(directory);
}

/** False where the file system has no such flag, or we may not set it. */
export function setImmutable(path: string, immutable: boolean): boolean {
  using file = open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const flags = getInodeFlags(file.fd, path);
    const wanted = immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
    if (wanted !== flags) setInodeFlags(file.fd, wanted, path);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOTTY', 'ENOTSUP', 'EOPNOTSUPP', 'EPERM')) return false;
    throw error;
  }
}

export function sync(path: string): void {
  using directory = open(path, constants.O_RDONLY);
  fsyncSync(directory.fd);
}

/** Under the pool's lock. */
export function discardStale(at: Layout): readonly string[] {
  const stale = readdirSync(at.templates).filter(name => UNFINISHED.test(name));
  return stale.filter(name => {
    const directory = join(at.templates, name);
    using lock = open(directory, constants.O_RDONLY);
    if (!tryLock(lock.fd, 'exclusive', directory)) return false;
    discard(directory);
    return true;
  });
}

function mustBeNew(at: Layout, name: string): void {
  if (!entries(at.templates).includes(name)) return;
  throw new ShiftvolError('SV_TEMPLATE_EXISTS', `Cannot import template "${name}": there is one of this name`, {
    field: 'template',
    remedy: `choose another name, or "shiftvol template remove ${name}" first`,
  });
}
