/** A container, templates of each file system, and what is done with a volume of theirs. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { FS_TYPES, type FsType } from '../../src/engine/model.ts';
import type { AttachmentView } from '../../src/http/view.ts';
import { open } from '../../src/kernel/fd.ts';
import { thawFileSystem } from '../../src/kernel/freeze.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { assertListIsTrue } from './consistent.ts';
import { makeWorld, type World } from './world.ts';

const WRITER = new URL('../rig/writer.ts', import.meta.url).pathname;
const DYING = new URL('./dying-snapshot.ts', import.meta.url).pathname;
export const GIB = 2 ** 30;

/** Container `c1`; a template named after each file system. What a test attaches is at /mnt/v of c1, and it leaves nothing. */
export class VolumeWorld implements AsyncDisposable {
  readonly world: World;
  readonly clean: HostState;

  private constructor(world: World) {
    this.world = world;
    this.clean = hostState(world.dir);
  }

  static async make(): Promise<VolumeWorld> {
    const world = await makeWorld();
    try {
      for (const fsType of FS_TYPES) await world.addTemplate(fsType, { files: 50, fsType });
      await world.lxd.launch('c1');
      await (await world.engine())[Symbol.asyncDispose]();
      return new VolumeWorld(world);
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
  }

  async cli<T>(...args: readonly string[]): Promise<T> {
    const { code, stdout, stderr } = await this.world.cli(...args, '--json');
    assert.equal(code, 0, `${args.join(' ')}: ${stderr}`);
    return JSON.parse(stdout);
  }

  async refused(...args: readonly string[]): Promise<{ code: number; error: { code: string; message: string } }> {
    const { code, stdout } = await this.world.cli(...args, '--json');
    return { code, ...JSON.parse(stdout) };
  }

  /** What df says inside, in bytes. */
  async sizeInside(target: string): Promise<number> {
    const text = await this.world.lxd.sh('c1', `df -k ${target} | tail -1`);
    return Number(text.trim().split(/\s+/).at(1)) * 1024;
  }

  async attachWritten(fsType: FsType): Promise<AttachmentView> {
    const { attachments } = await this.cli<{ attachments: AttachmentView[] }>(
      'attach',
      'c1',
      `${fsType}:/mnt/v`,
      '--snapshot',
    );
    await this.world.lxd.sh('c1', 'echo one > /mnt/v/marker; touch /mnt/v/clock; sync');
    const [attachment] = attachments;
    assert.ok(attachment);
    return attachment;
  }

  /** A process with an engine that is killed at this boundary, or what it says if it is not. */
  dieAt(boundary: string, action: string, what: string): NodeJS.Signals | string | null {
    const { signal, stdout, stderr } = spawnSync(process.execPath, [DYING, boundary, action, 'c1', '/mnt/v', what], {
      env: this.world.env,
      encoding: 'utf8',
      timeout: 60_000,
    });
    return signal ?? `${stdout}${stderr}`;
  }

  /** All that was attached is gone, and the host as it was. */
  async leave(): Promise<void> {
    await this.cli('destroy', 'c1');
    assert.deepEqual(await this.cli('snapshot', 'list'), []);
    assert.deepEqual(await this.cli('list'), []);
    await assertListIsTrue(this.world, []);
    await assertHostUnchanged(this.clean);
    const saved = join(this.world.poolDir, 'saved');
    assert.deepEqual(existsSync(saved) ? readdirSync(saved) : [], []);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.world[Symbol.asyncDispose]();
  }
}

export function isFrozen(path: string): boolean {
  using mount = open(path, 'r');
  return thawFileSystem(mount.fd, path);
}

export type Writer = AsyncDisposable & {
  /** Resolves when it was kept for so long, and goes on. */
  waited(ms: number): Promise<void>;
  /** Ends it. @returns how long it was kept at most */
  stop(): Promise<number>;
};

/** A process that writes to the volume on the host all the time. */
export async function startWriter(path: string): Promise<Writer> {
  const writer = spawn(process.execPath, [WRITER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  let longest = 0;
  const lines = createInterface({ input: writer.stdout });
  lines.on('line', line => {
    longest = Math.max(longest, Number(line.split(' ')[1] ?? 0));
  });
  const closed = once(writer, 'close');
  const end = async () => {
    writer.kill('SIGTERM');
    await closed;
  };
  await once(lines, 'line');
  return {
    async waited(ms) {
      while (longest < ms) await once(lines, 'line', { signal: AbortSignal.timeout(30_000) });
    },
    async stop() {
      await sleep(100);
      await end();
      return longest;
    },
    [Symbol.asyncDispose]: end,
  };
}
