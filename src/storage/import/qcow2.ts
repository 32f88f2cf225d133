/** The header of a qcow2 image: read by our own code before any other program opens it. @see docs/interop/qcow2.rst of QEMU */
import { ShiftvolError } from '../../errors.ts';

/** As much of a file as `checkQcow2` needs. */
export const QCOW2_HEAD_BYTES = 64 * 1024;

const MAGIC = 0x514649fb;
const LARGEST_BYTES = 2 ** 46;
const LARGEST_L1_BYTES = 32 * 2 ** 20;
const INCOMPATIBLE = { dirty: 1n, corrupt: 2n, externalData: 4n, compressionType: 8n, extendedL2: 16n } as const;
const KNOWN_INCOMPATIBLE = 31n;
const EXTENSION = { end: 0, backingFormat: 0xe2792aca, encryption: 0x0537be77, externalData: 0x44415441 } as const;

export function isQcow2(head: Buffer): boolean {
  return head.length >= 4 && head.readUInt32BE(0) === MAGIC;
}

/**
 * The virtual size of an image that stands for itself: nothing in it makes a reader open another file or ask for a key.
 * @throws SV_IMAGE_REFUSED saying which field is not accepted
 */
export function checkQcow2(head: Buffer): { readonly virtualBytes: number } {
  if (!isQcow2(head)) throw refused('it does not begin as one');
  if (head.length < 104) throw refused('it is shorter than its header');
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw refused(`its version is ${version}, 2 and 3 are accepted`);
  if (head.readBigUInt64BE(8) !== 0n || head.readUInt32BE(16) !== 0)
    throw refused(
      'it has a backing file, only images that stand for themselves are accepted',
      'flatten it: qemu-img convert -O qcow2',
    );
  if (head.readUInt32BE(32) !== 0) throw refused('it is encrypted');
  checkSizes(head);
  if (version === 3) checkFeatures(head.readBigUInt64BE(72));
  checkExtensions(head, version === 3 ? head.readUInt32BE(100) : 72);
  return { virtualBytes: Number(head.readBigUInt64BE(24)) };
}

function checkSizes(head: Buffer): void {
  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21)
    throw refused(`its clusters have 2^${clusterBits} bytes, 2^9 to 2^21 is accepted`);
  const size = head.readBigUInt64BE(24);
  if (size === 0n || size > BigInt(LARGEST_BYTES)) throw refused(`its size is ${size} bytes, 1 to 64 TiB is accepted`);
  const l1Bytes = head.readUInt32BE(36) * 8;
  // One L2 table is one cluster of 8-byte entries, each for a cluster (16 bytes with extended entries: twice as many tables).
  const covered = 2n ** BigInt(2 * clusterBits - 3) * BigInt(l1Bytes / 8);
  if (l1Bytes > LARGEST_L1_BYTES || covered < size)
    throw refused(`its table of ${l1Bytes / 8} entries does not fit its size`);
}

function checkFeatures(incompatible: bigint): void {
  if ((incompatible & INCOMPATIBLE.externalData) !== 0n) throw refused('its data is in another file');
  if ((incompatible & INCOMPATIBLE.corrupt) !== 0n)
    throw refused('it is marked as corrupt', 'repair it: qemu-img check -r all');
  if ((incompatible & ~KNOWN_INCOMPATIBLE) !== 0n)
    throw refused(`it needs features 0x${incompatible.toString(16)}, of which some are unknown`);
}

function checkExtensions(head: Buffer, start: number): void {
  if (start < 72 || start % 8 !== 0) throw refused(`its header is ${start} bytes long`);
  for (let at = start; ; ) {
    if (at + 8 > head.length) throw refused('its header extensions do not end');
    const type = head.readUInt32BE(at);
    if (type === EXTENSION.end) return;
    if (type === EXTENSION.externalData) throw refused('its data is in another file');
    if (type === EXTENSION.encryption) throw refused('it is encrypted');
    if (type === EXTENSION.backingFormat) throw refused('it names the format of a backing file');
    at += 8 + Math.ceil(head.readUInt32BE(at + 4) / 8) * 8;
  }
}

function refused(what: string, remedy?: string): ShiftvolError {
  return new ShiftvolError('SV_IMAGE_REFUSED', `Cannot use this qcow2 image: ${what}`, {
    field: 'from',
    ...(remedy === undefined ? {} : { remedy }),
  });
}
