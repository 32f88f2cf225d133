import { closeSync, constants, openSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, normalize } from 'node:path';
import { Worker } from 'node:worker_threads';
import { ShiftvolError } from '../errors.ts';
import { errnoNumber, isNodeErrno, KernelError } from '../kernel/errno.ts';
import type { Owned } from '../kernel/fd.ts';
import { O } from '../kernel/libc.ts';
import { type MntnsFd, openMountNamespace } from '../kernel/namespaces.ts';
import { findHolders, namespaceOf } from './holders.ts';
import type { InsideJob, InsideResult } from './inside-job.ts';
import { readMountinfo, topmostAt } from './mountinfo.ts';
import { busy } from './unmount.ts';

type Deps = { readonly procRoot: string; readonly sysRoot: string };
type Target = { readonly pid: number; readonly target: string; readonly devno: string; readonly lazy: boolean };

/** No unmount of a sound disk takes as long; what does is a file system of the container that does not answer. */
const ANSWER_TIMEOUT_MS = 60_000;
/** File systems that a walk may cross: none of them asks a process or another machine for a name. */
const LOCAL_TYPES = new Set([
  'ext2',
  'ext3',
  'ext4',
  'xfs',
  'btrfs',
  'zfs',
  'tmpfs',
  'ramfs',
  'overlay',
  'squashfs',
  'erofs',
  'f2fs',
]);

/** Unmounts inside running containers, from a thread of its own, which is started at the first use and kept. */
export class Inside implements AsyncDisposable {
  readonly #deps: Deps;
  #thread: Promise<Thread> | undefined;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** @throws SV_BUSY naming the holders, nothing changed then; SV_RUNTIME: the process lives in the host's own mount namespace */
  async unmount(what: Target): Promise<void> {
    if (
      !isAbsolute(what.target) ||
      normalize(what.target) !== what.target ||
      what.target === '/' ||
      what.target.includes('\0')
    )
      throw new ShiftvolError(
        'SV_TARGET_INVALID',
        `Cannot unmount ${JSON.stringify(what.target)} inside process ${what.pid}: accepted is an absolute, normal path below "/"`,
        { field: 'target' },
      );
    using view = openView(what.pid);
    if (view === undefined) return; // the process has ended, and its mounts with it
    this.#requireOtherNamespace(view.processFd, what);
    let result = await this.#run(view, what, false);
    if (isFailure(result, 'EXDEV') && this.#wayIsLocal(view.processFd, what.target))
      result = await this.#run(view, what, true);
    await this.#conclude(result, view.processFd, what);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const thread = await this.#thread?.catch(() => undefined);
    this.#thread = undefined;
    await thread?.end();
  }

  /** Starts the thread before it is needed: the first detach need not wait for it. */
  async warm(): Promise<void> {
    await this.#ready();
  }

  async #run(view: View, { target, devno, lazy }: Target, crossMounts: boolean): Promise<InsideResult> {
    const [major = -1, minor = -1] = devno.split(':').map(Number);
    const thread = await this.#ready();
    const where = {
      namespaceFd: view.namespaceFd,
      rootFd: view.rootFd,
      parent: dirname(target),
      name: basename(target),
    };
    try {
      return await thread.run({ ...where, major, minor, lazy, crossMounts });
    } catch (error) {
      this.#thread = undefined; // it has ended or hangs: the next one gets another
      throw error;
    }
  }

  async #ready(): Promise<Thread> {
    this.#thread ??= Thread.start();
    return await this.#thread.catch(error => {
      this.#thread = undefined;
      throw error;
    });
  }

  async #conclude(result: InsideResult, processFd: number, { pid, target, lazy }: Target): Promise<void> {
    if (result.state !== 'failed') return;
    // Nothing is there any more, or it is no mount point: somebody else has unmounted it.
    if (isFailure(result, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EINVAL', 'EXDEV')) return;
    const what = `Cannot unmount ${JSON.stringify(target)} inside process ${pid}`;
    const cause = new KernelError(result.step, result.errno, target);
    if (!isFailure(result, 'EBUSY') || lazy) throw new ShiftvolError('SV_KERNEL', what, { cause });
    const entry = topmostAt(readMountinfo(this.#deps.procRoot, `self/fd/${processFd}`), target);
    if (entry === undefined) return;
    throw busy(what, await findHolders(this.#deps, entry, namespaceOf(this.#deps.procRoot, pid)), cause);
  }

  #requireOtherNamespace(processFd: number, { pid, target }: Target): void {
    const { procRoot } = this.#deps;
    if (namespaceOf(procRoot, `self/fd/${processFd}`) !== namespaceOf(procRoot, 'self')) return;
    throw new ShiftvolError(
      'SV_RUNTIME',
      `Cannot unmount ${JSON.stringify(target)} inside process ${pid}: it has the host’s own mount namespace, accepted is a container’s`,
    );
  }

  /** True where every mount on the way to the parent is of a kind that answers by itself. */
  #wayIsLocal(processFd: number, target: string): boolean {
    return readMountinfo(this.#deps.procRoot, `self/fd/${processFd}`)
      .filter(m => m.point === '/' || dirname(target) === m.point || dirname(target).startsWith(`${m.point}/`))
      .every(m => LOCAL_TYPES.has(m.fsType));
  }
}

function isFailure(result: InsideResult, ...names: readonly string[]): boolean {
  return result.state === 'failed' && names.some(name => errnoNumber(name) === result.errno);
}

type View = Disposable & { readonly processFd: number; readonly namespaceFd: number; readonly rootFd: number };

/** All through one descriptor of /proc/PID: it goes dead with the process, so that a number used again is not mistaken for it. */
function openView(pid: number): View | undefined {
  using scope = new DisposableStack();
  const keep = (fd: number) => scope.adopt(fd, closeSync);
  try {
    const processFd = keep(openSync(`/proc/${pid}`, O.PATH | O.DIRECTORY));
    const namespaceFd = keep(openSync(`/proc/self/fd/${processFd}/ns/mnt`, constants.O_RDONLY));
    const rootFd = keep(openSync(`/proc/self/fd/${processFd}/root`, O.PATH | O.DIRECTORY));
    const kept = scope.move();
    return { processFd, namespaceFd, rootFd, [Symbol.dispose]: () => kept.dispose() };
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

/** It holds a dozen numbers and two buffers. */
const SMALL = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1, codeRangeSizeMb: 4 };

type Pending = { readonly resolve: (result: InsideResult) => void; readonly reject: (error: Error) => void };

class Thread {
  readonly #worker: Worker;
  readonly #home: Owned<MntnsFd>;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;

  /**
   * libuv's pool begins with its first user and shares that thread's root and working directory. Were the first the worker, every setns
   * of it would be refused for ever: so we are the first.
   */
  static async start(): Promise<Thread> {
    await stat('/');
    const thread = new Thread();
    await new Promise<void>((resolve, reject) => {
      thread.#worker.once('online', resolve);
      thread.#worker.once('error', reject);
    });
    thread.#worker.unref();
    return thread;
  }

  private constructor() {
    this.#home = openMountNamespace('self');
    // The build leaves this string as it is: the extension is the one that this very file has.
    const file = `./inside-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`;
    this.#worker = new Worker(new URL(file, import.meta.url), {
      workerData: this.#home.fd,
      execArgv: [],
      resourceLimits: SMALL,
    });
    this.#worker.on('message', (result: InsideResult) => {
      this.#pending.get(result.id)?.resolve(result);
      this.#settled(result.id);
    });
    this.#worker.on('error', error => this.#fail(error));
    this.#worker.on('exit', () => {
      this.#fail(new ShiftvolError('SV_INTERNAL', 'The thread that enters mount namespaces has ended'));
      this.#home[Symbol.dispose]();
    });
  }

  run(job: Omit<InsideJob, 'id'>): Promise<InsideResult> {
    const id = ++this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<InsideResult>();
    const timer = setTimeout(() => {
      reject(
        new ShiftvolError(
          'SV_TIMEOUT',
          `Cannot unmount ${job.parent}/${job.name}: no answer within ${ANSWER_TIMEOUT_MS} ms`,
        ),
      );
      this.#settled(id);
    }, ANSWER_TIMEOUT_MS);
    this.#pending.set(id, {
      resolve: result => resolve(result),
      reject,
    });
    this.#worker.ref(); // a caller waits
    this.#worker.postMessage({ ...job, id } satisfies InsideJob);
    return promise.finally(() => clearTimeout(timer));
  }

  async end(): Promise<void> {
    this.#worker.ref(); // or nothing would keep the process here until it has ended
    await this.#worker.terminate();
  }

  #settled(id: number): void {
    this.#pending.delete(id);
    if (this.#pending.size === 0) this.#worker.unref();
  }

  #fail(error: Error): void {
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}
