/**
 * The mount system calls: a file system context becomes a superblock, that a detached mount, that a place in the tree.
 * Sync where a call takes microseconds; what sleeps on the disk (create, umount2) is there in both forms.
 */
import type { Branded } from '../brand.ts';
import { errnoNumber, isErrno, KernelError } from './errno.ts';
import { type MountFd, Owned, type UsernsFd } from './fd.ts';
import { bind, bindAsync, check, descriptorArgument, lastErrno, NR, pathArgument } from './libc.ts';
import { AT_EMPTY_PATH, AT_FDCWD } from './statx.ts';

/** A file system that is being configured: from fsopen(2). */
export type FsContextFd = Branded<number, 'FsContextFd'>;

/** Flags of one mount, not of its superblock. @see mount_setattr(2) */
export const MOUNT_ATTR = {
  RDONLY: 0x1,
  NOSUID: 0x2,
  NODEV: 0x4,
  NOEXEC: 0x8,
  NOATIME: 0x10,
  IDMAP: 0x100000,
  NOSYMFOLLOW: 0x200000,
} as const;

const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const FSCONFIG_CMD_CREATE_EXCL = 8;
const OPEN_TREE_CLONE = 1;
const OPEN_TREE_CLOEXEC = 0x80000;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MOUNT_ATTR_SIZE_VER0 = 32;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

const sys = {
  fsopen: bind(NR.fsopen, 'str', 'uint'),
  fsconfig: bind(NR.fsconfig, 'int', 'uint', 'str', 'str', 'int'),
  fsconfigAsync: bindAsync('fsconfig', NR.fsconfig, 'int', 'uint', 'str', 'str', 'int'),
  fsmount: bind(NR.fsmount, 'int', 'uint', 'uint'),
  read: bind(NR.read, 'int', 'void *', 'ulong'),
  openTree: bind(NR.openTree, 'int', 'str', 'uint'),
  moveMount: bind(NR.moveMount, 'int', 'str', 'int', 'str', 'uint'),
  mountSetattr: bind(NR.mountSetattr, 'int', 'str', 'uint', 'void *', 'ulong'),
  umount2: bind(NR.umount2, 'str', 'int'),
  umount2Async: bindAsync('umount2', NR.umount2, 'str', 'int'),
};

/** Begins a superblock of this type. @throws {KernelError} ENODEV: the kernel has no such file system. @see fsopen(2), Linux 5.2 */
export function fsopen(type: string): Owned<FsContextFd> {
  return new Owned<FsContextFd>(check('fsopen', sys.fsopen(pathArgument(type), FSOPEN_CLOEXEC), type));
}

/** @throws {KernelError} EINVAL: no such parameter, or a bad value (`fsLog` has the words). @see fsconfig(2), Linux 5.2 */
export function fsconfigString(context: FsContextFd, key: string, value: string): void {
  const done = sys.fsconfig(descriptorArgument(context), FSCONFIG_SET_STRING, key, pathArgument(value), 0);
  check('fsconfig', done, `${key}=${value}`);
}

/** A parameter without a value, as `nouuid`; `ro` makes the superblock read-only. @throws {KernelError} EINVAL. @see fsconfig(2) */
export function fsconfigFlag(context: FsContextFd, key: string): void {
  check('fsconfig', sys.fsconfig(descriptorArgument(context), FSCONFIG_SET_FLAG, key, null, 0), key);
}

/**
 * Reads the device and makes the superblock: never one that exists already (Linux 6.6; before, one that exists is shared without
 * a word, so callers hold the device exclusively as well). Sleeps on the disk. After a failure the context is of no use any more;
 * why an image is bad stands in the kernel log (kmsg.ts), only wrong parameters in `fsLog`.
 * @throws {KernelError} EBUSY: mounted already; EINVAL, EUCLEAN, EBADMSG, EIO: bad image; ENOTBLK: no block device
 * @see fsconfig(2), Linux 5.2
 */
export function fsconfigCreate(context: FsContextFd, object: string): void {
  if (sys.fsconfig(descriptorArgument(context), FSCONFIG_CMD_CREATE_EXCL, null, null, 0) === 0) return;
  const errno = lastErrno();
  if (errno !== errnoNumber('EOPNOTSUPP')) throw new KernelError('fsconfig', errno, object);
  // An unknown command is refused before anything is done, so that the context is still good.
  check('fsconfig', sys.fsconfig(context, FSCONFIG_CMD_CREATE, null, null, 0), object);
}

/** `fsconfigCreate` on libuv's pool, about 50 us dearer, while the event loop goes on. */
export async function fsconfigCreateAsync(context: FsContextFd, object: string): Promise<void> {
  descriptorArgument(context);
  try {
    await sys.fsconfigAsync(object, context, FSCONFIG_CMD_CREATE_EXCL, null, null, 0);
  } catch (error) {
    if (!isErrno(error, 'EOPNOTSUPP', 'ENOTSUP')) throw error;
    await sys.fsconfigAsync(object, context, FSCONFIG_CMD_CREATE, null, null, 0);
  }
}

/** The context's own messages so far, `e ` or `w ` and the text; reading takes them away. @see fsopen(2) */
export function fsLog(context: FsContextFd): readonly string[] {
  const messages: string[] = [];
  const buffer = Buffer.alloc(4096);
  for (;;) {
    const length = sys.read(descriptorArgument(context), buffer, buffer.length);
    if (length <= 0) return messages; // ENODATA: no more
    messages.push(buffer.toString('utf8', 0, length).trim());
  }
}

/** A mount of the created superblock that has no path yet, with MOUNT_ATTR flags. @throws {KernelError}. @see fsmount(2), Linux 5.2 */
export function fsmount(context: FsContextFd, attributes: number): Owned<MountFd> {
  const fd = sys.fsmount(descriptorArgument(context), FSMOUNT_CLOEXEC, attributes);
  return new Owned<MountFd>(check('fsmount', fd, `fd ${context}`));
}

/** A detached copy of the mount at `path`, without those below it. It keeps the map of its source. @throws {KernelError} ENOENT, EINVAL. @see open_tree(2), Linux 5.2 */
export function openTreeClone(path: string): Owned<MountFd> {
  const fd = sys.openTree(AT_FDCWD, pathArgument(path), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  return new Owned<MountFd>(check('open_tree', fd, path));
}

/** A handle on the mount at `path` itself. While it is open, umount2 says EBUSY. @see open_tree(2), Linux 5.2 */
export function openTree(path: string): Owned<MountFd> {
  const fd = sys.openTree(AT_FDCWD, pathArgument(path), OPEN_TREE_CLOEXEC);
  return new Owned<MountFd>(check('open_tree', fd, path));
}

/** Puts a detached mount at `path`; a symlink at its end is not followed. @throws {KernelError} ENOENT, ENOTDIR, ELOOP, EINVAL. @see move_mount(2), Linux 5.2 */
export function moveMount(mount: MountFd, path: string): void {
  const done = sys.moveMount(descriptorArgument(mount), '', AT_FDCWD, pathArgument(path), MOVE_MOUNT_F_EMPTY_PATH);
  check('move_mount', done, path);
}

const attributes = new BigUint64Array(4); // struct mount_attr: attr_set, attr_clr, propagation, userns_fd

/** Sets and clears MOUNT_ATTR flags of a mount that the descriptor stands for. @throws {KernelError} EPERM: locked. @see mount_setattr(2), Linux 5.12 */
export function mountSetattr(mount: MountFd, set: number, clear: number): void {
  attributes.set([BigInt(set), BigInt(clear), 0n, 0n]);
  const done = sys.mountSetattr(descriptorArgument(mount), '', AT_EMPTY_PATH, attributes, MOUNT_ATTR_SIZE_VER0);
  check('mount_setattr', done, `fd ${mount}`);
}

/**
 * Maps the owners seen through a detached mount by a user namespace, whose `inside` ids are those on disk. Can be done once only.
 * Borrows both descriptors; the namespace may be closed afterwards.
 * `clear`: MOUNT_ATTR flags that the mount loses by the same call.
 * @throws {KernelError} EINVAL: attached already, no maps written, or the file system cannot be mapped; EPERM: mapped already, or the
 *   initial namespace; EBUSY: a file is open for writing on it
 * @see mount_setattr(2), Linux 5.12; btrfs 5.15
 */
export function mountSetIdmap(mount: MountFd, userns: UsernsFd, clear = 0): void {
  attributes.set([BigInt(MOUNT_ATTR.IDMAP), BigInt(clear), 0n, BigInt(descriptorArgument(userns))]);
  const done = sys.mountSetattr(descriptorArgument(mount), '', AT_EMPTY_PATH, attributes, MOUNT_ATTR_SIZE_VER0);
  check('mount_setattr', done, `fd ${mount}: idmap`);
}

export type UmountOptions = { readonly lazy: boolean };

/**
 * Takes the topmost mount at `path` away; a symlink at its end is never followed. `lazy` hides it, and all mounted below it, at once
 * and lets go when the last user has gone. Sleeps on the disk.
 * @throws {KernelError} EBUSY: in use; EINVAL: nothing is mounted there; ENOENT
 * @see umount2(2)
 */
export function umount2(path: string, options: UmountOptions): void {
  check('umount2', sys.umount2(pathArgument(path), umountFlags(options)), path);
}

/** `umount2` on libuv's pool. */
export async function umount2Async(path: string, options: UmountOptions): Promise<void> {
  await sys.umount2Async(path, pathArgument(path), umountFlags(options));
}

function umountFlags({ lazy }: UmountOptions): number {
  return UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);
}
