/** For tests inside the machine. */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';

/** A whole disk that is thrown away; /tmp is the machine's memory. */
export const SCRATCH = '/scratch';
/** The machine is emulated, and may have a tenth of a processor. */
export const PATIENCE_MS = 60 * 60_000;
const LINE_WIDTH = 300;

/** These tests load modules and start services: not on a host that is used for anything else. */
export function requireMachine(): void {
  if (process.env['SHIFTVOL_VM'] !== '1')
    throw new Error('This test changes the host that it runs on: run it with "npm run test:vm"');
}

/** Its stdout. @throws Error with its last words */
export function run(command: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (error) throw error;
  if (status === 0) return stdout;
  throw new Error(
    `${command} ${args.join(' ').slice(0, LINE_WIDTH)} ended with ${status}: ${stderr.trim()} ${stdout.trim()}`,
  );
}

export function sparseFile(path: string, sizeBytes: number): string {
  mkdirSync(dirname(path), { recursive: true });
  const fd = openSync(path, 'w');
  ftruncateSync(fd, sizeBytes);
  closeSync(fd);
  return path;
}

/** A loop device of a new file of this size. */
export function loopOf(path: string, sizeBytes: number): string {
  sparseFile(path, sizeBytes);
  return run('losetup', '--find', '--show', path).trim();
}

/** Makes the file behind a loop device larger, and the device with it. */
export function growLoop(device: string, path: string, sizeBytes: number): void {
  const fd = openSync(path, 'r+');
  ftruncateSync(fd, sizeBytes);
  closeSync(fd);
  run('losetup', '--set-capacity', device);
}

/** Attributes of configfs, in this order. */
export function configure(dir: string, attributes: Readonly<Record<string, string | number>>): void {
  mkdirSync(dir, { recursive: true });
  for (const [name, value] of Object.entries(attributes)) writeFileSync(`${dir}/${name}`, String(value));
}

/** Somebody who had the mounts of this moment copied, as a container has: how large the file system at `dir` is to him. */
export function otherNamespace(dir: string): AsyncDisposable & { sizeBytes(): Promise<number> } {
  const script = 'while read -r _; do stat --file-system --format "%b %S" "$1"; done';
  const child = spawn('unshare', ['--mount', 'sh', '-c', script, 'sh', dir], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>(resolve => child.once('close', () => resolve()));
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async sizeBytes() {
      child.stdin.write('\n');
      const [blocks, blockBytes] = String((await answers.next()).value).split(' ');
      return Number(blocks) * Number(blockBytes);
    },
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await ended;
    },
  };
}

export function say(t: TestContext, what: string, started: number): void {
  t.diagnostic(`${what}: ${Math.round(performance.now() - started)} ms`);
}
