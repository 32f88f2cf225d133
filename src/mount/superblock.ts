import type { FsType } from '../engine/model.ts';

export type ImageFacts = {
  /** How it has to be mounted: ext2 and ext3 are `ext4`, whose driver is the only one of the three that can map ids. */
  readonly fsType: FsType;
  /** Lower case with dashes. */
  readonly uuid: string;
  readonly label: string;
  /** Of the file system, by its superblock; the image may be larger, and is damaged if it is smaller. */
  readonly sizeBytes: number;
  /** `unclean`: its journal has to be replayed. xfs tells only by a walk over its log: `unknown`. */
  readonly journal: 'clean' | 'unclean' | 'unknown';
};

/** A superblock as it stands there: `dangers` are the ways in which a mount of it would reach beyond the image. */
export type Superblock = ImageFacts & { readonly dangers: readonly string[] };

/** `0f1e2d3c-...` of 16 bytes. */
export function uuidText(bytes: Buffer): string {
  const text = bytes.toString('hex');
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join('-');
}

/** Up to the first NUL. */
export function labelText(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end === -1 ? bytes.length : end);
}
