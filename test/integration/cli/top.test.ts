/** `shiftvol top` in a real terminal, on an agent's socket: keys, sizes, signals, crashes; and without one. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { TopFacts } from '../../../src/cli/top-facts.ts';
import type { Command } from '../../../src/engine/model.ts';
import { listenOnSocket } from '../../../src/http/agent-socket.ts';
import { hasPty, Pty } from '../../rig/pty.ts';
import { makeRig } from '../../unit/engine/fakes.ts';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const never = new AbortController().signal;
const dir = mkdtempSync(join(tmpdir(), 'shiftvol-top-'));
after(() => rmSync(dir, { recursive: true }));

const BUS = {
  healthy: true,
  listen: [{ subscribed: true, backlog: { waiting: 7, deadLetters: 2 }, working: 1 }],
  publisher: { ready: true, published: 5 },
};

let agents = 0;
/** With a rig in the place of a host. `attach` makes it do something. */
async function agent() {
  await using scope = new AsyncDisposableStack();
  const runDir = mkdtempSync(join(dir, `run-${++agents}-`));
  const rig = scope.use(makeRig());
  rig.host.addInstance('c1', 2_000_000);
  const stats = () => ({ host: 'node1', pid: process.pid, bus: BUS, journal: rig.store.census() });
  scope.use(await listenOnSocket(join(runDir, 'agent.sock'), rig.engine, () => ({}), never, stats));
  const kept = scope.move();
  let n = 0;
  return {
    runDir,
    attach: () => rig.engine.execute(attach('c1', `/mnt/${++n}`), never),
    fail: () => assert.rejects(rig.engine.execute(attach('nobody', '/mnt/x'), never)),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

const attach = (ref: string, target: string): Command => ({
  action: 'attach',
  instance: { ref },
  target,
  source: { kind: 'template', template: 'web' },
  readOnly: false,
});
const argv = (runDir: string, ...more: readonly string[]) => [
  ...[process.execPath, MAIN, 'top', '--run-dir', runDir, '--state-dir', join(dir, 'state'), ...more],
];
const ENTERED = '\x1b[?1049h';
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is what is looked for
const COLOUR = /\x1b\[[\d;]*m/;
const LEFT = '\x1b[?1049l';
const PLAIN = { ...process.env, NO_COLOR: '1', NODE_OPTIONS: '' };

describe('in a terminal', { skip: !hasPty && 'python3 is missing' }, () => {
  test('it shows what is done while it is done, stands still at p, sorts at s, and leaves all as it was at q', async () => {
    await using host = await agent();
    await using top = new Pty(argv(host.runDir), { env: PLAIN });

    await top.until(/states {2}attached 0/);
    await host.attach();
    await host.fail();
    await top.until(/states {2}attached 1\b[\s\S]*attach {3}done .* c1 /);
    const picture = top.picture.join('\n');
    assert.match(picture, /^shiftvol top {2}node1 {2}pid \d+ .* q quit {2}p pause {2}s sort/);
    assert.match(picture, /^work {4}attach \d+\.\d\/s/m);
    assert.match(picture, /^bus {5}subscribed {2}waiting 7 {2}working 1 {2}dead letters 2 {2}told 5 /m);
    assert.match(picture, /^mount +1 +0 +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d$/m);

    top.tell({ keys: 's' });
    await top.until(/MAX MS {2}by p99/);
    top.tell({ keys: 'p' });
    await top.until(/paused: p goes on/);
    await host.attach();
    const paused = top.text.length;
    await top.until(/paused[\s\S]*paused[\s\S]*paused/, paused);
    assert.doesNotMatch(top.text.slice(paused), /attached 2/);
    top.tell({ keys: 'p' });
    await top.until(/attached 2/, paused);
    assert.ok(top.picture.length <= 24 && top.picture.every(line => line.length <= 80));
    assert.doesNotMatch(top.text, COLOUR, 'NO_COLOR');

    top.tell({ keys: 'q' });
    assert.deepEqual(await top.ended, { exit: 0, cooked: true });
    assert.equal(top.text.split(ENTERED).length, 2);
    assert.ok(top.text.endsWith(LEFT));
  });

  test('it takes the size that the terminal is given', async () => {
    await using host = await agent();
    await using top = new Pty(argv(host.runDir), { env: PLAIN });
    await top.until(/LAST/);

    const before = top.text.length;
    top.tell({ size: [6, 40] });
    await top.until(/shiftvol top {2}node1 [^\n]{0,30}…[^\n]*\n[\s\S]*pool/, before);
    assert.equal(top.picture.length, 6);
    assert.ok(top.picture.every(line => line.length <= 40));
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    test(`${signal} ends it, and the terminal is as it was`, async () => {
      await using host = await agent();
      await using top = new Pty(argv(host.runDir), { env: PLAIN });
      await top.until(/LAST/);

      top.tell({ signal });

      assert.deepEqual(await top.ended, { exit: 0, cooked: true });
      assert.ok(top.text.endsWith(LEFT));
    });

  test('an error that nobody has thought of leaves the terminal as it was, and is told', async () => {
    await using host = await agent();
    const crash = 'data:text/javascript,process.on("SIGUSR2", () => { throw new Error("not thought of"); })';
    const [node = '', ...args] = argv(host.runDir);
    await using top = new Pty([node, '--import', crash, ...args], { env: PLAIN });
    await top.until(/LAST/);

    top.tell({ signal: 'SIGUSR2' });

    const { exit, cooked } = await top.ended;
    assert.deepEqual([exit === 0, cooked], [false, true]);
    assert.ok(top.text.includes(LEFT));
    assert.match(top.text, /not thought of/);
  });

  test('an agent that goes away is waited for, and watched again', async () => {
    await using host = await agent();
    await using top = new Pty(argv(host.runDir), { env: PLAIN });
    await top.until(/LAST/);

    await host[Symbol.asyncDispose]();

    await top.until(/the agent does not answer; waiting for it/);
    top.tell({ keys: '\x03' });
    assert.deepEqual(await top.ended, { exit: 0, cooked: true });
  });
});

test('--json prints an object a second with what ended since the last', async () => {
  await using host = await agent();
  const [node = '', ...args] = argv(host.runDir, '--json');
  const top = spawn(node, args, { env: PLAIN, stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  const facts: TopFacts[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  top.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
    facts.splice(
      0,
      facts.length,
      ...text
        .split('\n')
        .slice(0, -1)
        .map(line => JSON.parse(line)),
    );
    if (facts.length === 1) void host.attach();
    if (facts.some(({ ended }) => ended.length > 0)) resolve();
  });
  await promise;
  top.kill('SIGINT');
  const [status] = await once(top, 'exit');

  assert.equal(status, 0);
  const last = facts.find(({ ended }) => ended.length > 0);
  assert.deepEqual(
    last?.ended.map(({ action, state, instance }) => [action, state, instance]),
    [['attach', 'done', 'c1']],
  );
  assert.equal(last?.states.attached, 1);
  assert.equal(last?.work.steps.find(({ step }) => step === 'mount')?.count, 1);
  assert.equal(last?.bus?.deadLetters, 2);
});

test('--once looks for a second, prints, and ends', async () => {
  await using host = await agent();
  const [node = '', ...args] = argv(host.runDir, '--once', '--json');
  const top = spawn(node, args, { env: PLAIN, stdio: ['ignore', 'pipe', 'inherit'] });
  const [[text], [status]] = await Promise.all([once(top.stdout.setEncoding('utf8'), 'data'), once(top, 'exit')]);

  assert.equal(status, 0);
  assert.equal(JSON.parse(String(text)).host, 'node1');
});

test('where no agent runs it says so, and ends with 1', () => {
  const [node = '', ...args] = argv(dir, '--once');
  const { status, stdout, stderr } = spawnSync(node, args, { env: PLAIN, encoding: 'utf8' });

  assert.deepEqual([status, stdout], [1, '']);
  assert.match(
    stderr,
    /^shiftvol: Cannot hear from the agent at ".*agent\.sock": nobody listens there \(start it: shiftvol serve\)/,
  );
});

test('without a terminal it says what to give', async () => {
  await using host = await agent();
  const [node = '', ...args] = argv(host.runDir);
  const top = spawn(node, args, { env: PLAIN, stdio: ['ignore', 'pipe', 'pipe'] });
  const [[text], [status]] = await Promise.all([once(top.stderr.setEncoding('utf8'), 'data'), once(top, 'exit')]);

  assert.equal(status, 2);
  assert.match(String(text), /--json and --once need none/);
});
