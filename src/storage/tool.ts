/** Runs helper programs: mkfs, fsck, tar, qemu-img. Never through a shell, never on the hot path. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { ShiftvolError } from '../errors.ts';
import { isNodeErrno } from '../kernel/errno.ts';

export type ToolOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Exit statuses that are no failure. Default: 0. */
  readonly accept?: readonly number[];
  /** Descriptors for the program's 3, 4, ... */
  readonly inherit?: readonly number[];
  /** The caller writes stdin. */
  readonly input?: boolean;
  /** The caller reads stdout. */
  readonly output?: boolean;
  /** Gets stdout as it comes, instead of `stdout`. */
  readonly onOutput?: (chunk: Buffer) => void;
  /** Of address space: for what may be told by its input to take more. Default: no limit. */
  readonly maxMemoryBytes?: number;
};

export type ToolResult = { readonly status: number; readonly stdout: string; readonly stderr: string };

/** A program that runs. `done` settles when it has ended and its output is read; on abort it is killed first. */
export type RunningTool = {
  readonly pid: number | undefined;
  /** SIGKILL. */
  kill(): void;
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  readonly done: Promise<ToolResult>;
};

const KEPT = 64 * 1024;
/** Where mkfs and fsck are; a user's own PATH often lacks them. */
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const PACKAGES: Readonly<Record<string, string>> = {
  mke2fs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  tune2fs: 'e2fsprogs',
  resize2fs: 'e2fsprogs',
  'mkfs.xfs': 'xfsprogs',
  xfs_repair: 'xfsprogs',
  xfs_growfs: 'xfsprogs',
  'mkfs.btrfs': 'btrfs-progs',
  btrfs: 'btrfs-progs',
  'qemu-img': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  'mount.nfs': 'nfs-common',
  iscsiadm: 'open-iscsi',
  multipath: 'multipath-tools',
  multipathd: 'multipath-tools',
  nvme: 'nvme-cli',
  rbd: 'ceph-common',
  'rbd-nbd': 'rbd-nbd',
  cryptsetup: 'cryptsetup-bin',
  modprobe: 'kmod',
  tar: 'tar',
  gzip: 'gzip',
  xz: 'xz-utils',
  zstd: 'zstd',
  bzip2: 'bzip2',
  find: 'findutils',
  prlimit: 'util-linux',
};

/** Runs it to its end. @throws SV_HOST: not installed; SV_TOOL with the program's own last words; the abort's reason */
export async function runTool(file: string, args: readonly string[], options: ToolOptions = {}): Promise<ToolResult> {
  return await startTool(file, args, options).done;
}

export function startTool(file: string, args: readonly string[], options: ToolOptions = {}): RunningTool {
  options.signal?.throwIfAborted();
  const { maxMemoryBytes } = options;
  const [program, ...all] =
    maxMemoryBytes === undefined ? [file, ...args] : ['prlimit', `--as=${maxMemoryBytes}`, file, ...args];
  const child = spawn(program, all, {
    env: { PATH: SYSTEM_PATH, LC_ALL: 'C', TZ: 'UTC' },
    stdio: [options.input ? 'pipe' : 'ignore', 'pipe', 'pipe', ...(options.inherit ?? [])],
  });
  const done = finish(child, file, options);
  // Whoever pipes learns of a failure from `done`; a broken pipe is its consequence and tells nothing more.
  child.stdin?.on('error', () => {});
  done.catch(() => {});
  return { pid: child.pid, kill: () => void child.kill('SIGKILL'), stdin: child.stdin, stdout: child.stdout, done };
}

async function finish(child: ChildProcess, file: string, options: ToolOptions): Promise<ToolResult> {
  let stdout = '';
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-KEPT);
  });
  if (options.onOutput) child.stdout?.on('data', options.onOutput);
  else if (!options.output)
    child.stdout?.on('data', (chunk: Buffer) => {
      stdout = (stdout + chunk.toString('utf8')).slice(-KEPT);
    });
  // A second AbortError from spawn's own `signal` would come before the child has gone: so it is killed here and waited for.
  const kill = (): void => void child.kill('SIGKILL');
  options.signal?.addEventListener('abort', kill, { once: true });
  try {
    const status = await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, name) => resolve(code ?? 128 + (name === null ? 0 : 9)));
    });
    options.signal?.throwIfAborted();
    if ((options.accept ?? [0]).includes(status)) return { status, stdout, stderr };
    // prlimit's own way to say that there is no such program.
    if (status === 127 && options.maxMemoryBytes !== undefined) throw notInstalled(file);
    throw new ShiftvolError(
      'SV_TOOL',
      `Cannot go on: ${file} ended with status ${status}: ${lastWords(stderr || stdout)}`,
    );
  } catch (error) {
    if (!isNodeErrno(error, 'ENOENT')) throw error;
    throw notInstalled(file, error);
  } finally {
    options.signal?.removeEventListener('abort', kill);
  }
}

function notInstalled(file: string, cause?: unknown): ShiftvolError {
  const known = PACKAGES[file];
  return new ShiftvolError('SV_HOST', `Cannot run ${file}: it is not installed`, {
    ...(known === undefined ? {} : { remedy: `apt-get install ${known}` }),
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Where a program says why: in its first line (before its usage) or in its last ones. On one line. */
function lastWords(text: string): string {
  const lines = text
    .split('\n')
    .map(line => line.trim().slice(0, 200))
    .filter(line => line !== '');
  const told = lines.length <= 4 ? lines : [...lines.slice(0, 1), ...lines.slice(-2)];
  return told.length === 0 ? 'it said nothing' : told.join('; ');
}
