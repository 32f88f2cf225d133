/** Ready-made images: one of each file system, built once a test process, and a pool on XFS where clones cost nothing. Needs root. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FsType } from '../../src/engine/model.ts';
import { open } from '../../src/kernel/fd.ts';
import { umount2 } from '../../src/kernel/mount.ts';
import { ficlone } from '../../src/kernel/reflink.ts';
import { makePool } from './pool.ts';

const MIB = 2 ** 20;
/** Sparse. mkfs.xfs refuses less than 300 MiB, mkfs.btrfs less than 110. */
const SIZES = { ext4: 64 * MIB, xfs: 320 * MIB, btrfs: 128 * MIB } as const satisfies Record<FsType, number>;
const MKFS = {
  // Nothing is left to a thread of the kernel that would write to the image when it is mounted.
  ext4: ['mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0,nodiscard'],
  xfs: ['mkfs.xfs', '-q', '-f'],
  btrfs: ['mkfs.btrfs', '-q', '-f', '-m', 'single', '-d', 'single'],
} as const satisfies Record<FsType, readonly [string, ...string[]]>;

/** Owners in the tree, relative to the base: what a map of 65536 ids shows, and one id beyond it. */
export const OWNERS = { root: 0, user: 1000, nobody: 65534, outside: 70000 } as const;

const built = new Map<string, string>();
let home: string | undefined;

/** Path of an image with the tree of `fillTree`, not to be written: clone or copy it. */
export function image(fsType: FsType, idBase = 0): string {
  const key = `${fsType}-${idBase}`;
  const there = built.get(key);
  if (there !== undefined) return there;
  home ??= makeHome();
  const path = join(home, `${key}.img`);
  makeImage(fsType, path, { idBase });
  built.set(key, path);
  return path;
}

/** A new file system with the tree at `path`. */
export function makeImage(
  fsType: FsType,
  path: string,
  options: { idBase?: number; args?: readonly string[] } = {},
): void {
  writeFileSync(path, '');
  truncateSync(path, SIZES[fsType]);
  const [mkfs, ...args] = MKFS[fsType];
  run(mkfs, ...args, ...(options.args ?? []), path);
  withMounted(path, fsType, point => fillTree(point, options.idBase ?? 0));
}

/** Mounts an image without any map, as its own host would, for a look at what is on the disk. */
export function withMounted<T>(path: string, fsType: FsType, use: (point: string) => T): T {
  const point = mkdtempSync(join(tmpdir(), 'shiftvol-look-'));
  try {
    run('mount', '-o', `loop${fsType === 'xfs' ? ',nouuid' : ''}`, '-t', fsType, path, point);
    try {
      return use(point);
    } finally {
      run('umount', point);
    }
  } finally {
    rmSync(point, { recursive: true });
  }
}

/** Owners, modes, ACL, xattr, setuid, setgid, sticky, a device node. */
export function fillTree(point: string, base: number): void {
  chownSync(point, base, base);
  for (const [name, id] of Object.entries(OWNERS)) {
    writeFileSync(join(point, name), `${name}\n`);
    chownSync(join(point, name), base + id, base + id);
  }
  const dir = (name: string, id: number, mode: number) => {
    mkdirSync(join(point, name));
    chownSync(join(point, name), base + id, base + id);
    chmodSync(join(point, name), mode);
  };
  dir('sticky', 0, 0o1777);
  dir('setgid', 1000, 0o2775);
  cpSync('/usr/bin/id', join(point, 'setuid'));
  chownSync(join(point, 'setuid'), base, base);
  chmodSync(join(point, 'setuid'), 0o4755);
  symlinkSync('/etc/passwd', join(point, 'link'));
  run('setfacl', '-m', `u:${base + 1000}:rw,g:${base + 33}:r`, join(point, 'root'));
  run('setfacl', '-d', '-m', `u:${base + 1000}:rwx`, join(point, 'setgid'));
  run('setfattr', '-n', 'user.shiftvol', '-v', 'kept', join(point, 'user'));
  run('mknod', join(point, 'null'), 'c', '1', '3');
}

export type Pool = {
  readonly dir: string;
  /** A reflink clone of `image(fsType)`, or of another file of the pool. */
  clone(of: FsType | { readonly path: string }, name: string): string;
};

/** A loop-backed XFS with the images in it, for as long as `use` runs. */
export async function withPool<T>(use: (pool: Pool) => Promise<T>): Promise<T> {
  const made = makePool('xfs');
  try {
    const result = await use(poolIn(made.poolDir));
    made[Symbol.dispose]();
    return result;
  } catch (error) {
    // A test that has failed half way may have left something in use; its own error is what is to be seen.
    umount2(made.poolDir, { lazy: true });
    rmSync(made.base, { recursive: true });
    throw error;
  }
}

function poolIn(dir: string): Pool {
  const templates = new Map<FsType, string>();
  const template = (fsType: FsType): string => {
    const path = templates.get(fsType) ?? join(dir, `template-${fsType}.img`);
    if (!templates.has(fsType)) run('cp', '--sparse=always', image(fsType), path);
    templates.set(fsType, path);
    return path;
  };
  return {
    dir,
    clone(of, name) {
      const path = join(dir, name);
      using from = open(typeof of === 'string' ? template(of) : of.path, 'r');
      using to = open(path, 'w+', 0o600);
      ficlone(to.fd, from.fd, name);
      return path;
    },
  };
}

function makeHome(): string {
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-images-'));
  process.once('exit', () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function run(file: string, ...args: readonly string[]): string {
  return execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}
