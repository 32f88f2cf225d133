/** What file system an image holds, read by ourselves from its superblock: no library, no helper, nothing that a label could fool. */
import { read } from 'node:fs';
import { promisify } from 'node:util';
import { FS_TYPES } from '../engine/model.ts';
import { ShiftvolError } from '../errors.ts';
import { describe, findContainer, HEAD_BYTES, type Head } from './signatures.ts';
import { readBtrfs } from './super-btrfs.ts';
import { readExt4 } from './super-ext4.ts';
import { readXfs } from './super-xfs.ts';
import type { ImageFacts, Superblock } from './superblock.ts';

export type { ImageFacts } from './superblock.ts';

const readAt = promisify(read);
const READERS = [readExt4, readXfs, readBtrfs] as const satisfies readonly ((head: Head) => Superblock | undefined)[];
const ACCEPTED = `accepted are ${FS_TYPES.slice(0, -1).join(', ')} and ${FS_TYPES.at(-1)}`;

/**
 * Reads the first 68 KiB. Borrows `fd`, needs it open for reading only; `name` is for the text of the error.
 * @throws SV_IMAGE_REFUSED: none of our file systems, more than one signature, or one that would act beyond the image (external journal
 *   or log, several devices, own mount options, multiple mount protection)
 */
export async function probeImage(fd: number, name = 'the image'): Promise<ImageFacts> {
  const buffer = Buffer.alloc(HEAD_BYTES);
  // The two places where superblocks stand, at once: what lies between them is only looked at to name what was refused.
  const [low, high] = await Promise.all([
    readAt(fd, buffer, 0, LOW_BYTES, 0),
    readAt(fd, buffer, HIGH_AT, HEAD_BYTES - HIGH_AT, HIGH_AT),
  ]);
  const found = superblocks(buffer.subarray(0, high.bytesRead > 0 ? HIGH_AT + high.bytesRead : low.bytesRead));
  if (found.length > 0) return requireMountable(found, findContainer(buffer.subarray(0, low.bytesRead)), name);
  const whole = await readAt(fd, buffer, 0, HEAD_BYTES, 0);
  return requireMountable([], describe(buffer.subarray(0, whole.bytesRead)), name);
}
const LOW_BYTES = 8192;
const HIGH_AT = 65536;

/** Every superblock of ours in the beginning of an image. Pure. */
export function superblocks(head: Head): readonly Superblock[] {
  return READERS.flatMap(reader => reader(head) ?? []);
}

/** The one superblock, if it may be mounted. Pure. @throws SV_IMAGE_REFUSED */
export function requireMountable(
  found: readonly Superblock[],
  otherwise: string | undefined,
  name: string,
): ImageFacts {
  const [superblock, second] = found;
  if (superblock === undefined) throw refused(`Cannot mount ${name}: it is ${otherwise}, ${ACCEPTED}`);
  const other = second?.fsType ?? otherwise;
  if (other !== undefined)
    throw refused(
      `Cannot mount ${name}: it has the signatures of ${superblock.fsType} and of ${other}, accepted is one only`,
      'remove the stale one with wipefs(8)',
    );
  const { dangers, ...facts } = superblock;
  const danger = dangers[0];
  if (danger !== undefined) throw refused(`Cannot mount ${name}: its ${facts.fsType} ${danger}`);
  return facts;
}

function refused(text: string, remedy?: string): ShiftvolError {
  return new ShiftvolError('SV_IMAGE_REFUSED', text, { field: 'image', ...(remedy === undefined ? {} : { remedy }) });
}
