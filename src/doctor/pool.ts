/** The pool: there, able to share extents, with room. */
import { type PoolPaths, type PoolStatus, poolStatus } from '../storage/pool-status.ts';
import { attempt, bad, type Check, good, isRoot, notTried, warn } from './check.ts';

const LOW_BYTES = 2 ** 30;
const LOW_SHARE = 0.1;
const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

export async function poolChecks(paths: PoolPaths): Promise<Check[]> {
  if (!isRoot()) return [notTried('pool.status')];
  let status: PoolStatus | undefined;
  const there = await attempt('pool.status', () => {
    status = poolStatus(paths);
    return judge(status);
  });
  return status === undefined ? [there] : [there, ...room(status)];
}

function judge(status: PoolStatus): Check {
  const { poolDir, kind, mounted, reflink, templates, snapshots } = status;
  const check = 'pool.status';
  if (!mounted)
    return warn(check, `${status.image?.path} is not mounted at ${poolDir}`, 'shiftvol recover, or start the agent');
  if (!reflink)
    return bad(
      check,
      `files in ${poolDir} cannot share extents: no snapshot can be taken, XFS and btrfs can`,
      'shiftvol pool create --size 20G, or name a directory on such a file system as pool_dir',
    );
  const where = kind === 'image' ? `${status.image?.path} at ${poolDir}` : poolDir;
  return good(check, `${where}: ${templates} templates, ${snapshots} snapshots`);
}

function room({ mounted, sizeBytes, freeBytes, image }: PoolStatus): Check[] {
  if (!mounted) return [];
  const low = freeBytes < Math.max(LOW_BYTES, sizeBytes * LOW_SHARE);
  const checks = [
    low
      ? warn('pool.space', `${gib(freeBytes)} of ${gib(sizeBytes)} are free`, 'shiftvol pool grow, or remove templates')
      : good('pool.space', `${gib(freeBytes)} of ${gib(sizeBytes)} are free`),
  ];
  if (image !== undefined) {
    // The image is sparse: what it has not taken yet must still be there when it is wanted.
    const unbacked = image.sizeBytes - image.allocatedBytes - image.hostFreeBytes;
    if (unbacked > 0)
      checks.push(
        warn(
          'pool.backing',
          `the pool may still grow by ${gib(image.sizeBytes - image.allocatedBytes)}, below it only ${gib(image.hostFreeBytes)} are free`,
          'make room there: writes into containers would fail',
        ),
      );
  }
  return checks;
}
