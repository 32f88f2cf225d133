/** qcow2 files as block devices: one qemu-nbd a file, on a device of the nbd module. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { Connection } from '../../engine/model.ts';
import { KeyedQueue } from '../../engine/queue.ts';
import { ShiftvolError } from '../../errors.ts';
import { isNodeErrno } from '../../kernel/errno.ts';
import { runTool } from '../tool.ts';
import { type ConnectEnv, cannotConnect, stillUsed } from './connector.ts';
import { qcow2Size, requireOwnChain } from './qcow2-chain.ts';
import { isReady } from './ready.ts';
import { attribute, deviceSize, entries } from './sysfs.ts';
import { isUnused, requireUnused } from './unused.ts';
import { waitFor, waitUntil } from './wait.ts';

const READY_MS = 15_000;
const GONE_MS = 15_000;

/**
 * Whose a device is, is told by the arguments of the process behind it, so that it can be found again after a crash; the file's path is
 * the last of them.
 */
export class Nbd {
  readonly #env: ConnectEnv;
  /** Choosing a free device and taking it are two things. */
  readonly #queue = new KeyedQueue(Number.POSITIVE_INFINITY);

  constructor(env: ConnectEnv) {
    this.#env = env;
  }

  /** The device of this file, if a qemu-nbd has it. */
  find(file: string): string | undefined {
    const name = this.#devices().find(device => this.#serves(device, file));
    return name && `/dev/${name}`;
  }

  /** `directory`: no file of the chain may lie outside of it. */
  async connect(
    connection: Connection,
    { path, directory }: { readonly path: string; readonly directory: string },
    signal: AbortSignal | undefined,
  ): Promise<string> {
    return await this.#queue.run('nbd', async () => {
      const sizeBytes = await requireOwnChain(path, directory, signal);
      const device = this.find(path) ?? (await this.#start(connection, path, signal));
      const what = `a device of volume "${connection.name}"`;
      const { sysRoot } = this.#env;
      const isWhole = async () => deviceSize(sysRoot, device) === sizeBytes && (await isReady(sysRoot, device));
      await waitFor(async () => (await isWhole()) || undefined, { timeoutMs: READY_MS, signal, what });
      return device;
    });
  }

  async disconnect(connection: Connection, path: string, signal: AbortSignal | undefined): Promise<void> {
    const device = this.find(path);
    if (device === undefined) return;
    await requireUnused(connection, device);
    const process = this.#processOf(device);
    await runTool('qemu-nbd', ['--disconnect', device], { signal });
    // The device goes first; the process writes what it has, and keeps the file open for as long.
    const isGone = () => this.find(path) === undefined && argumentsOf(this.#env.procRoot, process).at(-1) !== path;
    if (!(await waitUntil(isGone, GONE_MS, signal))) throw stillUsed(connection, `qemu-nbd still has ${device}`);
  }

  /** qemu-nbd shows the size that the file had when it was opened: it must be started again, which takes an unused device. */
  async rescan(connection: Connection, path: string, signal: AbortSignal | undefined): Promise<void> {
    const device = this.find(path);
    if (device === undefined) return;
    if (deviceSize(this.#env.sysRoot, device) >= (await qcow2Size(path, signal))) return;
    throw new ShiftvolError(
      'SV_CONNECTION',
      `Cannot extend volume "${connection.name}" while it is attached: it is a qcow2 file`,
      {
        remedy: 'detach it and attach it again: it has its new size then',
      },
    );
  }

  #devices(): readonly string[] {
    return entries(this.#env.sysRoot, 'block').filter(name => /^nbd\d+$/.test(name));
  }

  /** What sysfs names is a thread, which ends before its process. */
  #processOf(device: string): string {
    const thread = attribute(this.#env.sysRoot, 'block', basename(device), 'pid') ?? '';
    const status = thread === '' ? undefined : attribute(this.#env.procRoot, thread, 'status');
    return /^Tgid:\s*(\d+)$/m.exec(status ?? '')?.[1] ?? thread;
  }

  #serves(device: string, file: string): boolean {
    const pid = attribute(this.#env.sysRoot, 'block', device, 'pid');
    return pid !== undefined && argumentsOf(this.#env.procRoot, pid).at(-1) === file;
  }

  async #start(connection: Connection, path: string, signal: AbortSignal | undefined): Promise<string> {
    await runTool('modprobe', ['nbd', 'nbds_max=64', 'max_part=0'], { signal });
    const free = this.#devices().filter(name => attribute(this.#env.sysRoot, 'block', name, 'pid') === undefined);
    for (const name of free) {
      const device = `/dev/${name}`;
      // Not opened by its name by a program that got there between.
      if (!(await isUnused(device))) continue;
      const options = ['--format=qcow2', '--cache=none', '--aio=native', '--discard=unmap', '--detect-zeroes=unmap'];
      const mode = connection.readOnly ? ['--read-only'] : [];
      await runTool('qemu-nbd', [`--connect=${device}`, ...options, ...mode, '--', path], { signal });
      return device;
    }
    throw cannotConnect(connection, 'no nbd device is free', undefined, 'load the module with more: nbds_max=256');
  }
}

/** A process's command line; none where it has ended. */
export function argumentsOf(procRoot: string, pid: string): readonly string[] {
  if (pid === '') return [];
  try {
    return readFileSync(`${procRoot}/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ESRCH')) return [];
    throw error;
  }
}
