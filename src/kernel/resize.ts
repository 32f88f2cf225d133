/** Growing a file system while it is mounted: one ioctl a file system, given a descriptor of a directory on it that may be open for reading. */
import { bind, bindAsync, check, descriptorArgument, NR } from './libc.ts';

const EXT4_IOC_RESIZE_FS = 0x40086610;
const XFS_IOC_FSGEOMETRY_V1 = 0x80705864;
const XFS_IOC_FSGROWFSDATA = 0x4010586e;
const BTRFS_IOC_RESIZE = 0x50009403;
const BTRFS_IOC_FS_INFO = 0x8400941f;

const XFS_GEOMETRY_BYTES = 112; // struct xfs_fsop_geom_v1
const BTRFS_VOL_ARGS_BYTES = 4096; // struct btrfs_ioctl_vol_args: s64 fd, name
const BTRFS_FS_INFO_BYTES = 1024;

const sys = {
  ioctl: bind(NR.ioctl, 'int', 'ulong', 'void *'),
  ext4Resize: bindAsync('EXT4_IOC_RESIZE_FS', NR.ioctl, 'int', 'ulong', 'void *'),
  xfsGrow: bindAsync('XFS_IOC_FSGROWFSDATA', NR.ioctl, 'int', 'ulong', 'void *'),
  btrfsResize: bindAsync('BTRFS_IOC_RESIZE', NR.ioctl, 'int', 'ulong', 'void *'),
};

/**
 * Makes an ext4 this many of its blocks large. As large already is success.
 * @throws {KernelError} EINVAL: smaller than it is; EPERM: it has errors; EOPNOTSUPP (told as ENOTSUP): bigalloc, sparse_super2; ENOSPC: the
 *   device is smaller; the kernel log has the words
 * @see fs/ext4/ioctl.c, Linux 3.3
 */
export async function ext4Resize(fd: number, blocks: bigint, object: string): Promise<void> {
  const argument = Buffer.alloc(8);
  argument.writeBigUInt64LE(blocks);
  await sys.ext4Resize(object, descriptorArgument(fd), EXT4_IOC_RESIZE_FS, argument);
}

export type XfsGeometry = { readonly blockBytes: number; readonly blocks: bigint; readonly imaxpct: number };

/** @see ioctl_xfs_fsgeometry(2) */
export function xfsGeometry(fd: number, object: string): XfsGeometry {
  const found = Buffer.alloc(XFS_GEOMETRY_BYTES);
  check('XFS_IOC_FSGEOMETRY_V1', sys.ioctl(descriptorArgument(fd), XFS_IOC_FSGEOMETRY_V1, found), object);
  return { blockBytes: found.readUInt32LE(0), imaxpct: found.readUInt32LE(28), blocks: found.readBigUInt64LE(32) };
}

/** @throws {KernelError} EWOULDBLOCK: it is being grown already; EINVAL; ENOSPC; EROFS. @see ioctl_xfs_fsgrowfs(2) */
export async function xfsGrow(
  fd: number,
  { blocks, imaxpct }: Pick<XfsGeometry, 'blocks' | 'imaxpct'>,
  object: string,
): Promise<void> {
  const argument = Buffer.alloc(16); // struct xfs_growfs_data: u64 newblocks, u32 imaxpct
  argument.writeBigUInt64LE(blocks, 0);
  argument.writeUInt32LE(imaxpct, 8);
  await sys.xfsGrow(object, descriptorArgument(fd), XFS_IOC_FSGROWFSDATA, argument);
}

/**
 * Makes a btrfs of one device as large as that device.
 * @throws {KernelError} EINPROGRESS: it is being balanced or resized; EROFS; EPERM
 * @see btrfs-ioctl(2), BTRFS_IOC_RESIZE
 */
export async function btrfsResizeToDevice(fd: number, object: string): Promise<void> {
  const argument = Buffer.alloc(BTRFS_VOL_ARGS_BYTES);
  argument.write(`${btrfsDeviceId(fd, object)}:max`, 8);
  await sys.btrfsResize(object, descriptorArgument(fd), BTRFS_IOC_RESIZE, argument);
}

/** Of the only device: not 1 where the file system has moved from one to another. */
function btrfsDeviceId(fd: number, object: string): bigint {
  const info = Buffer.alloc(BTRFS_FS_INFO_BYTES); // struct btrfs_ioctl_fs_info_args: u64 max_id, u64 num_devices
  check('BTRFS_IOC_FS_INFO', sys.ioctl(descriptorArgument(fd), BTRFS_IOC_FS_INFO, info), object);
  return info.readBigUInt64LE(0);
}
