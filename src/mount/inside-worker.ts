/**
 * The thread that enters a container's mount namespace for a few system calls and comes home. Between the two setns it runs nothing
 * but those calls on memory that is there already: no import, no file, no log, no throw, no await, since all of these would
 * happen in the container. A thread that cannot come home must not live on, so the process ends then.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { bind, lastErrno, NR, O } from '../kernel/libc.ts';
import { CLONE } from '../kernel/namespaces.ts';
import { RESOLVE } from '../kernel/openat2.ts';
import { AT_EMPTY_PATH } from '../kernel/statx.ts';
import type { INSIDE_STEPS, InsideJob, InsideResult } from './inside-job.ts';

type Step = (typeof INSIDE_STEPS)[number];

const AT_STATX_DONT_SYNC = 0x4000;
const STATX_MNT_ID = 0x1000;
const STATX_ATTR_MOUNT_ROOT = 0x2000n;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
const OPEN_HOW_BYTES = 24;

const sys = {
  setns: bind(NR.setns, 'int', 'int'),
  unshare: bind(NR.unshare, 'int'),
  openat2: bind(NR.openat2, 'int', 'str', 'void *', 'ulong'),
  statx: bind(NR.statx, 'int', 'str', 'int', 'uint', 'void *'),
  fchdir: bind(NR.fchdir, 'int'),
  close: bind(NR.close, 'int'),
  umount2: bind(NR.umount2, 'str', 'int'),
};
const SAFE_WALK = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS | RESOLVE.NO_SYMLINKS;
const flags = BigInt(O.PATH | O.DIRECTORY | O.CLOEXEC | O.NOFOLLOW);
const status = Buffer.alloc(256);

/** Root and working directory of this thread alone: setns into a mount namespace is refused to a thread that shares them. */
const home: unknown = workerData;
if (typeof home !== 'number' || parentPort === null) throw new TypeError('inside-worker is started by inside.ts only');
if (sys.unshare(CLONE.FS) === -1) throw new Error(`unshare(CLONE_FS): errno ${lastErrno()}`);
const port = parentPort;
port.on('message', (job: InsideJob) => port.postMessage(run(home, job)));

function run(homeNamespace: number, job: InsideJob): InsideResult {
  const { id } = job;
  const how = new BigUint64Array([flags, 0n, BigInt(SAFE_WALK | (job.crossMounts ? 0 : RESOLVE.NO_XDEV))]);
  const targetHow = new BigUint64Array([flags, 0n, BigInt(SAFE_WALK)]);
  let step: Step = 'setns';
  if (sys.setns(job.namespaceFd, CLONE.NEWNS) === -1) return { id, state: 'failed', step, errno: lastErrno() };

  let state: 'done' | 'other' | 'failed' = 'failed';
  let errno = 0;
  let target = -1;
  step = 'parent';
  const parent = sys.openat2(job.rootFd, job.parent, how, OPEN_HOW_BYTES);
  if (parent !== -1) {
    step = 'target';
    target = sys.openat2(parent, job.name, targetHow, OPEN_HOW_BYTES);
  }
  if (target !== -1) {
    step = 'statx';
    // Not synced: whatever the container has put there is not asked, it could be a FUSE mount that never answers.
    if (sys.statx(target, '', AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, status) === -1) errno = lastErrno();
    else if (!isTheMount(job)) state = 'other';
    sys.close(target); // our own descriptor on the mount would make it busy
    if (state !== 'other' && errno === 0) {
      step = 'fchdir';
      if (sys.fchdir(parent) === 0) {
        step = 'umount2';
        if (sys.umount2(job.name, UMOUNT_NOFOLLOW | (job.lazy ? MNT_DETACH : 0)) === 0) state = 'done';
      }
      if (state !== 'done') errno = lastErrno();
    }
  } else errno = lastErrno();
  if (parent !== -1) sys.close(parent);

  // Back home, which also makes root and working directory the host's again.
  if (sys.setns(homeNamespace, CLONE.NEWNS) === -1) process.abort();
  return state === 'failed' ? { id, state, step, errno } : { id, state };
}

function isTheMount({ major, minor }: InsideJob): boolean {
  const mountRoot = (status.readBigUInt64LE(8) & STATX_ATTR_MOUNT_ROOT) !== 0n;
  return mountRoot && status.readUInt32LE(136) === major && status.readUInt32LE(140) === minor;
}
