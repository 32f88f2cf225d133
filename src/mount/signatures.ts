/** What else than our three file systems may stand on an image, by magic bytes: to say what was refused, never to use it. */

/** The beginning of an image; short where the image is. */
export type Head = Buffer;
/** So much of the beginning holds every signature here, btrfs' superblock (64 KiB + 4 KiB) included. */
export const HEAD_BYTES = 69632;

type Signature = { readonly what: string; readonly at: number; readonly magic: string | Buffer };

const hex = (text: string) => Buffer.from(text, 'hex');

/**
 * These own the whole device, so that one of them beside a file system means that somebody is wrong about the image
 * (blkid(8) calls such a one ambivalent and shows nothing).
 */
const CONTAINERS: readonly Signature[] = [
  { what: 'a LUKS volume', at: 0, magic: Buffer.from('LUKS\xba\xbe', 'latin1') },
  ...[0, 512, 1024, 1536].map(at => ({ what: 'an LVM2 physical volume', at: at + 24, magic: 'LVM2 001' })),
  { what: 'a member of a Linux RAID', at: 4096, magic: hex('fc4e2ba9') },
  { what: 'a member of a Linux RAID', at: 0, magic: hex('fc4e2ba9') },
  { what: 'a bcache device', at: 4120, magic: hex('c68573f64e1a45ca8265f57f48ba6d81') },
  { what: 'a qcow2 image', at: 0, magic: hex('514649fb') },
  { what: 'a VMDK image', at: 0, magic: 'KDMV' },
  { what: 'a VHDX image', at: 0, magic: 'vhdxfile' },
  { what: 'a VDI image', at: 0x40, magic: hex('7f10dabe') },
  { what: 'a disk with a GPT partition table', at: 512, magic: 'EFI PART' },
  { what: 'a disk with a GPT partition table', at: 4096, magic: 'EFI PART' },
];

const OTHERS: readonly Signature[] = [
  { what: 'swap space', at: 4086, magic: 'SWAPSPACE2' },
  { what: 'swap space', at: 4086, magic: 'SWAP-SPACE' },
  { what: 'squashfs', at: 0, magic: 'hsqs' },
  { what: 'EROFS', at: 1024, magic: hex('e2e1f5e0') },
  { what: 'F2FS', at: 1024, magic: hex('1020f5f2') },
  { what: 'NTFS', at: 3, magic: 'NTFS    ' },
  { what: 'exFAT', at: 3, magic: 'EXFAT   ' },
  { what: 'FAT', at: 82, magic: 'FAT32   ' },
  { what: 'FAT', at: 54, magic: 'FAT1' },
  { what: 'ISO 9660', at: 32769, magic: 'CD001' },
  { what: 'JFS', at: 32768, magic: 'JFS1' },
  { what: 'ReiserFS', at: 65588, magic: 'ReIsEr' },
  { what: 'bcachefs', at: 4120, magic: hex('c68573f666ce90a9d96a60cf803df7ef') },
  { what: 'gzip data', at: 0, magic: hex('1f8b08') },
  { what: 'xz data', at: 0, magic: hex('fd377a585a00') },
  { what: 'zstd data', at: 0, magic: hex('28b52ffd') },
  { what: 'a zip archive', at: 0, magic: hex('504b0304') },
  { what: 'a tar archive', at: 257, magic: 'ustar' },
  { what: 'a program', at: 0, magic: hex('7f454c46') },
];

/** What claims the whole device, if anything. */
export function findContainer(head: Head): string | undefined {
  return find(head, CONTAINERS);
}

/** What an image without a file system of ours is. */
export function describe(head: Head): string {
  const what = find(head, CONTAINERS) ?? find(head, OTHERS);
  if (what !== undefined) return what;
  if (isMbr(head)) return 'a disk with an MBR partition table';
  if (head.every(byte => byte === 0))
    return head.length === 0 ? 'an empty file' : 'blank, nothing but zeros at its beginning';
  return 'without any file system that is known here';
}

function find(head: Head, signatures: readonly Signature[]): string | undefined {
  return signatures.find(({ at, magic }) => {
    const bytes = typeof magic === 'string' ? Buffer.from(magic, 'latin1') : magic;
    return head.subarray(at, at + bytes.length).equals(bytes);
  })?.what;
}

/** 0x55aa ends many a boot sector; a partition table has flags of 0 or 0x80 and at least one type besides. */
function isMbr(head: Head): boolean {
  if (head.length < 512 || head.readUInt16BE(510) !== 0x55aa) return false;
  const entries = [446, 462, 478, 494].map(at => ({ flag: head.readUInt8(at), type: head.readUInt8(at + 4) }));
  return entries.every(e => e.flag === 0 || e.flag === 0x80) && entries.some(e => e.type !== 0);
}
