/** Makes sure that an image is a clean file system that may be mounted, and finds out what its attach needs to know. */
import { constants, statSync } from 'node:fs';
import type { FsType } from '../../engine/model.ts';
import { ShiftvolError } from '../../errors.ts';
import { open } from '../../kernel/fd.ts';
import { fstatx } from '../../kernel/statx.ts';
import { type ImageFacts, probeImage } from '../../mount/probe.ts';
import { mountPrivately, waitUnused } from '../private-mount.ts';
import { runTool } from '../tool.ts';

export type CleanImage = ImageFacts & {
  /** Of the root directory's owner. */
  readonly idBase: number;
  /** Device nodes in it. */
  readonly deviceNodes: number;
};

/** What changes nothing and says whether anything is wrong. */
const CHECKS = {
  ext4: ['e2fsck', '-f', '-n'],
  xfs: ['xfs_repair', '-n', '-f'],
  btrfs: ['btrfs', 'check', '--readonly', '--force'],
} as const satisfies Record<FsType, readonly string[]>;

/**
 * Replays the journal, then has the file system's own checker look at it. Borrows `image`, a file of ours that nobody else uses.
 * @throws SV_IMAGE_REFUSED: not one of our file systems, dangerous, or damaged; SV_MOUNT with the kernel's reason; SV_HOST: a tool lacks
 */
export async function cleanImage(image: string, signal: AbortSignal | undefined): Promise<CleanImage> {
  const before = await probe(image);
  mustBeWhole(image, before);
  if (before.fsType === 'ext4') await preen(image, before, signal);
  // An xfs or btrfs log is replayed by the kernel alone, when it mounts for writing; whether xfs's needs it, only the kernel can tell.
  const writing = before.fsType !== 'ext4' && before.journal !== 'clean';
  const seen = await look(image, before.fsType, writing, signal);
  const [file, ...args] = CHECKS[before.fsType];
  try {
    await runTool(file, [...args, image], { signal });
  } catch (error) {
    if (!(error instanceof ShiftvolError && error.code === 'SV_TOOL')) throw error;
    throw new ShiftvolError(
      'SV_IMAGE_REFUSED',
      `Cannot use this image: its ${before.fsType} is damaged, a clean one is accepted`,
      {
        field: 'from',
        remedy: `repair the source with ${file}, then import it again`,
        cause: error,
      },
    );
  }
  return { ...(await probe(image)), ...seen };
}

function mustBeWhole(image: string, { fsType, sizeBytes }: ImageFacts): void {
  const found = statSync(image).size;
  if (found >= sizeBytes) return;
  throw new ShiftvolError(
    'SV_IMAGE_REFUSED',
    `Cannot use this image: it is cut off, its ${fsType} has ${sizeBytes} bytes and the image ${found}`,
    { field: 'from' },
  );
}

async function probe(image: string): Promise<ImageFacts> {
  using file = open(image, constants.O_RDONLY);
  return await probeImage(file.fd);
}

/**
 * The journal is replayed by e2fsck, not by the kernel: it reads what a stranger wrote. Preening makes the repairs that are safe without
 * asking (exit 1), as at boot. What the image wants to happen at a bad block is never what is mounted with, and is put right here too.
 */
async function preen(image: string, { journal }: ImageFacts, signal: AbortSignal | undefined): Promise<void> {
  if (journal !== 'clean') {
    try {
      await runTool('e2fsck', ['-p', image], { signal, accept: [0, 1] });
    } catch (error) {
      if (!(error instanceof ShiftvolError && error.code === 'SV_TOOL')) throw error;
      throw new ShiftvolError('SV_IMAGE_REFUSED', 'Cannot use this image: the journal of its ext4 cannot be replayed', {
        field: 'from',
        cause: error,
      });
    }
  }
  await runTool('tune2fs', ['-e', 'remount-ro', image], { signal });
}

/** One mount, as an attach makes it: that the kernel takes it is part of being accepted. */
async function look(image: string, fsType: FsType, writing: boolean, signal: AbortSignal | undefined) {
  let seen: { idBase: number; deviceNodes: number };
  {
    using mount = await mountPrivately(image, { fsType, readOnly: !writing });
    const { uid, gid } = fstatx(mount.fd);
    if (uid !== gid)
      throw new ShiftvolError(
        'SV_IMAGE_REFUSED',
        `Cannot use this image: its root directory belongs to ${uid}:${gid}, the same user and group id is accepted`,
        { field: 'from' },
      );
    const args = ['/proc/self/fd/3/.', '-xdev', '(', '-type', 'b', '-o', '-type', 'c', ')', '-printf', '.'];
    const found = await runTool('find', args, { inherit: [mount.fd], signal });
    seen = { idBase: uid, deviceNodes: found.stdout.length };
  }
  await waitUnused(image, signal);
  return seen;
}
