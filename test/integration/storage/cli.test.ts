import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { removePool } from '../../../src/storage/pool.ts';
import { makeTree } from '../../rig/tree.ts';
import { hostState } from './host-state.ts';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const base = mkdtempSync(join(tmpdir(), 'shiftvol-cli-'));
const stateDir = join(base, 'state');
const poolDir = join(stateDir, 'pool');
const tree = join(base, 'tree');
const big = join(base, 'big');

before(async () => {
  mkdirSync(tree);
  writeFileSync(join(tree, 'file'), 'content');
  await makeTree(big, { files: 5000 });
});
after(async () => {
  if (existsSync(join(stateDir, 'pool.img'))) await removePool({ stateDir, poolDir });
  rmSync(base, { recursive: true });
});

describe('shiftvol pool and template', () => {
  it('make, show, use and remove a pool and a template', async () => {
    await fails(['template', 'import', 'web', '--from', tree], 5, /pool create/);
    assert.equal(existsSync(poolDir), false);
    assert.match(
      (await shiftvol(['pool', 'create', '--size', '4G', '--dry-run'])).stdout,
      /mkfs\.xfs +\S+\/pool\.img\.new/,
    );
    assert.equal(existsSync(poolDir), false);
    assert.match((await shiftvol(['pool', 'create', '--size', '4G'])).stdout, /work here/);
    assert.equal((await json(['pool', 'status'])).at(-1)?.['reflink'], true);

    const imported = await shiftvol(['template', 'import', 'web', '--from', tree, '--id-base', '100000', '--json']);

    const result = JSON.parse(imported.stdout);
    assert.deepEqual(result['dropped'], { devices: 0, sockets: 0 });
    const events = imported.stderr.trim().split('\n');
    assert.ok(events.length > 1 && events.every(line => JSON.parse(line)['event'] === 'progress'));
    const shown = (await json(['template', 'show', 'web'])).at(-1);
    assert.deepEqual(shown, { ...Object(result?.['template']), snapshots: 0 });
    assert.equal(shown?.['idBase'], 100_000);
    assert.match((await shiftvol(['template', 'verify', 'web'])).stdout, /read-only and immutable/);
    assert.match((await shiftvol(['template', 'list'])).stdout, /web +ext4/);
    await shiftvol(['template', 'remove', 'web']);
    assert.equal((await shiftvol(['template', 'list'])).stdout.trim(), 'no templates');
  });

  it('refuse bad input with the status that says what kind, and change nothing', async () => {
    const state = hostState(base);
    const bad: readonly (readonly [readonly string[], number, RegExp])[] = [
      [['pool', 'create', '--size', '4X'], 2, /--size|"4X"/],
      [['pool', 'create', '--size', '1M'], 2, /512 MiB/],
      [['pool', 'create', '--size', '8G'], 4, /exists/],
      [['pool', 'create'], 2, /--size/],
      [['pool', 'grow', '--size', '1G'], 2, /never shrinks/],
      [['template', 'import', 'Web', '--from', tree], 2, /a-z/],
      [['template', 'import', 'web'], 2, /--from/],
      [['template', 'import', 'web', '--from', '/nonexistent'], 3, /no such file/],
      [['template', 'import', 'web', '--from', tree, '--fs', 'zfs'], 2, /ext4/],
      [['template', 'import', 'web', '--from', tree, '--id-base', 'abc'], 2, /whole number/],
      [['template', 'import', 'web', '--from', tree, '--id-base', '1000'], 2, /65536/],
      [['template', 'import', 'web', '--from', tree, '--sha256', 'xyz'], 2, /hexadecimal/],
      [['template', 'import', 'web', '--from', tree, '--size', '1K'], 2, /16 MiB/],
      [['template', 'show', 'none'], 3, /none of this name/],
      [['template', 'verify', 'none'], 3, /none of this name/],
      [['template', 'remove', '../etc'], 2, /a-z/],
    ];

    for (const [args, status, text] of bad) await fails(args, status, text);

    assert.deepEqual(hostState(base), state);
  });

  it('leave nothing when an import is interrupted by Control-C', async () => {
    const state = hostState(base);
    const child = start(['template', 'import', 'web', '--from', big, '--json']);
    const ended = once(child, 'close');
    let stderr = '';
    child.stderr.on('data', chunk => {
      stderr += String(chunk);
    });

    await once(child.stderr, 'data');
    child.kill('SIGINT');

    assert.deepEqual(await ended, [1, null]);
    assert.match(stderr, /Cancelled/);
    assert.deepEqual(hostState(base), state);
  });
});

function start(args: readonly string[]) {
  return spawn(process.execPath, [MAIN, '--state-dir', stateDir, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
}

async function shiftvol(args: readonly string[], status = 0): Promise<{ stdout: string; stderr: string }> {
  const child = start(args);
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', chunk => {
    output.stdout += String(chunk);
  });
  child.stderr.on('data', chunk => {
    output.stderr += String(chunk);
  });
  const [code] = await once(child, 'close');
  assert.equal(code, status, `${args.join(' ')}: ${output.stderr}`);
  return output;
}

async function fails(args: readonly string[], status: number, text: RegExp): Promise<void> {
  const { stderr } = await shiftvol(args, status);
  assert.match(stderr, text, args.join(' '));
  assert.doesNotMatch(stderr, /^ +at /m, 'no stack trace');
}

async function json(args: readonly string[]): Promise<readonly Record<string, unknown>[]> {
  const { stdout } = await shiftvol([...args, '--json']);
  return stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line));
}
