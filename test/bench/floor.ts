import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { run } from '../rig/pool.ts';
import type { BenchFs } from './options.ts';
import type { Workspace } from './workspace.ts';

export type Phases = Readonly<Record<string, number>>;
/** Milliseconds by the C program's own clock: what it takes to ask it is not in them. */
export type FloorResult = { readonly ms: number; readonly phases: Phases };

const SOURCE = fileURLToPath(new URL('floor.c', import.meta.url));

/** Compiles floor.c into the workspace. @throws where there is no gcc */
export function compileFloor(workspace: Workspace): string {
  const program = join(workspace.dir, 'floor');
  run('gcc', '-O2', '-Wall', '-Wextra', '-o', program, SOURCE);
  return program;
}

/** The bare system calls, one attach or detach at a time, in a process of its own. */
export class Floor implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  constructor(
    program: string,
    at: { template: string; snapshots: string; mounts: string; fs: BenchFs; hostId: number },
  ) {
    mkdirSync(at.snapshots, { recursive: true, mode: 0o700 });
    mkdirSync(at.mounts, { recursive: true, mode: 0o700 });
    this.#child = spawn(program, [at.template, at.snapshots, at.mounts, at.fs, String(at.hostId)]);
    this.#child.stderr.pipe(process.stderr);
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  attach(name: string): Promise<FloorResult> {
    return this.#ask(`attach ${name}`);
  }

  detach(name: string): Promise<FloorResult> {
    return this.#ask(`detach ${name}`);
  }

  async #ask(line: string): Promise<FloorResult> {
    this.#child.stdin.write(`${line}\n`);
    const next = await this.#lines.next();
    if (next.done) throw new Error(`floor ended at "${line}"`);
    return JSON.parse(next.value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise(resolve => this.#child.once('close', resolve));
    this.#child.stdin.end();
    await ended;
  }
}
