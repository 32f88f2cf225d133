/** statmount(2) and listmount(2): questions about single mounts that do not read the whole table. */
import { isErrno } from './errno.ts';
import { bind, check, NR } from './libc.ts';

const SB_BASIC = 0x1;
const MNT_BASIC = 0x2;
const MNT_ROOT = 0x8;
const MNT_POINT = 0x10;
const FS_TYPE = 0x20;
const SB_SOURCE = 0x200;
const MNT_UIDMAP = 0x2000;
const MNT_GIDMAP = 0x4000;

const REQUEST_BYTES = 32; // struct mnt_id_req: u32 size, u32 spare, u64 mnt_id, param, mnt_ns_id
const REPLY_BYTES = 64 * 1024;
const STRINGS_AT = 512;
const LSMT_ROOT = 0xffffffffffffffffn;
const LIST_LENGTH = 4096;

/** Of one mount. What the kernel is too old to tell is undefined. */
export type MountStatus = {
  /** Unique: never used again. */
  readonly mountId: bigint;
  readonly parentId: bigint;
  /** Device of the superblock, `7:3`; anonymous for btrfs. */
  readonly devno: string;
  readonly fsType: string | undefined;
  /** MOUNT_ATTR flags. */
  readonly attributes: bigint;
  /** Directory of the file system that the mount shows, `/`. */
  readonly root: string | undefined;
  readonly point: string | undefined;
  /** `/dev/loop3`. Linux 6.13 */
  readonly source: string | undefined;
  /** `0 200000 65536` a line. Linux 6.15 */
  readonly uidMap: readonly string[] | undefined;
  readonly gidMap: readonly string[] | undefined;
};

const sys = {
  statmount: bind(NR.statmount, 'void *', 'void *', 'ulong', 'uint'),
  listmount: bind(NR.listmount, 'void *', 'void *', 'ulong', 'uint'),
};
const request = Buffer.alloc(REQUEST_BYTES);
let reply: Buffer | undefined;

/** What to ask for, where not all of it is wanted: each saves some microseconds. */
export const STATMOUNT = {
  maps: MNT_UIDMAP | MNT_GIDMAP,
  kind: MNT_BASIC | MNT_ROOT | FS_TYPE,
  point: MNT_POINT,
} as const;
const ALL = SB_BASIC | MNT_BASIC | MNT_ROOT | MNT_POINT | FS_TYPE | SB_SOURCE | MNT_UIDMAP | MNT_GIDMAP;

/**
 * What the kernel knows of the mount with this unique id (`statx`), in our own mount namespace or that with the id `namespace`.
 * `wanted`: bits of STATMOUNT; what is not asked for is undefined or 0.
 * @throws {KernelError} ENOENT: no such mount, or it has no place yet; ENOSYS: before Linux 6.8
 * @see statmount(2)
 */
export function statmount(mountId: bigint, { namespace = 0n, wanted = ALL } = {}): MountStatus {
  reply ??= Buffer.alloc(REPLY_BYTES);
  ask(mountId, BigInt(wanted), namespace);
  check('statmount', sys.statmount(request, reply, reply.length, 0), `mount ${mountId}`);
  return parse(reply);
}

/** Unique ids of the mounts directly below one, or of all mounts of a namespace without `below`. @throws {KernelError} ENOENT; ENOSYS: before Linux 6.8. @see listmount(2) */
export function listmount(options: { readonly below?: bigint; readonly namespace?: bigint } = {}): readonly bigint[] {
  const page = new BigUint64Array(LIST_LENGTH);
  const ids: bigint[] = [];
  for (;;) {
    ask(options.below ?? LSMT_ROOT, ids.at(-1) ?? 0n, options.namespace ?? 0n);
    const count = check('listmount', sys.listmount(request, page, LIST_LENGTH, 0), 'mount namespace');
    ids.push(...page.subarray(0, count));
    if (count < LIST_LENGTH) return ids;
  }
}

/** undefined instead of the error that an older kernel gives, so that a caller can go another way. */
export function whereSupported<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (isErrno(error, 'ENOSYS')) return undefined;
    throw error;
  }
}

function ask(id: bigint, param: bigint, namespace: bigint): void {
  request.writeUInt32LE(REQUEST_BYTES, 0);
  request.writeUInt32LE(0, 4);
  request.writeBigUInt64LE(id, 8);
  request.writeBigUInt64LE(param, 16);
  request.writeBigUInt64LE(namespace, 24);
}

function parse(b: Buffer): MountStatus {
  const got = Number(b.readBigUInt64LE(8));
  const stringAt = (offset: number) => b.toString('utf8', offset, b.indexOf(0, offset));
  const string = (bit: number, at: number) => (got & bit ? stringAt(STRINGS_AT + b.readUInt32LE(at)) : undefined);
  const strings = (bit: number, countAt: number, at: number) => {
    if (!(got & bit)) return undefined;
    let offset = STRINGS_AT + b.readUInt32LE(at);
    return Array.from({ length: b.readUInt32LE(countAt) }, () => {
      const text = stringAt(offset);
      offset += Buffer.byteLength(text) + 1;
      return text;
    });
  };
  return {
    devno: `${b.readUInt32LE(16)}:${b.readUInt32LE(20)}`,
    fsType: string(FS_TYPE, 36),
    mountId: b.readBigUInt64LE(40),
    parentId: b.readBigUInt64LE(48),
    attributes: b.readBigUInt64LE(64),
    root: string(MNT_ROOT, 104),
    point: string(MNT_POINT, 108),
    source: string(SB_SOURCE, 124),
    uidMap: strings(MNT_UIDMAP, 152, 156),
    gidMap: strings(MNT_GIDMAP, 160, 164),
  };
}
