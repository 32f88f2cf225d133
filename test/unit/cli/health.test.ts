import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { listenOnSocket } from '../../../src/http/agent-socket.ts';
import { makeRig } from '../engine/fakes.ts';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const made: string[] = [];
after(() => {
  for (const dir of made) rmSync(dir, { recursive: true });
});

function runDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-health-'));
  made.push(dir);
  return dir;
}

function health(dir: string, ...more: string[]): Promise<{ code: number; out: string; err: string }> {
  const { promise, resolve } = Promise.withResolvers<{ code: number; out: string; err: string }>();
  execFile(process.execPath, [MAIN, '--run-dir', dir, 'health', ...more], (error, out, err) =>
    resolve({ code: typeof error?.code === 'number' ? error.code : 0, out, err }),
  );
  return promise;
}

async function agent(dir: string, bus: { healthy: boolean } | null): Promise<AsyncDisposable> {
  await using scope = new AsyncDisposableStack();
  const { engine } = scope.use(makeRig());
  const answer = () => ({ host: 'node1', pid: 17, bus });
  scope.use(await listenOnSocket(join(dir, 'agent.sock'), engine, answer, new AbortController().signal));
  return scope.move();
}

test('health ends with 0 while the agent answers, also without its broker', async () => {
  const dir = runDir();
  await using _ = await agent(dir, { healthy: false });

  assert.deepEqual(await health(dir), { code: 0, out: 'pid 17 lives, not subscribed\n', err: '' });
  const json = await health(dir, '--json');
  assert.deepEqual(JSON.parse(json.out), { host: 'node1', pid: 17, bus: { healthy: false } });
});

test('health --bus ends with 1 while the agent is not subscribed, and with 0 where there is no bus', async () => {
  const [unsubscribed, without] = [runDir(), runDir()];
  await using _one = await agent(unsubscribed, { healthy: false });
  await using _other = await agent(without, null);

  const refused = await health(unsubscribed, '--bus');
  assert.equal(refused.code, 1);
  assert.match(refused.err, /pid 17 is not subscribed/);
  assert.equal((await health(without, '--bus')).code, 0);
});

test('health ends with 1 where nobody listens', async () => {
  const { code, err } = await health(runDir());

  assert.equal(code, 1);
  assert.match(err, /nobody listens there/);
});

test('health ends with 1 where the answer does not come in time', async () => {
  const dir = runDir();
  const silent = createServer(() => {}).listen(join(dir, 'agent.sock'));
  try {
    const { code, err } = await health(dir, '--timeout', '200');

    assert.equal(code, 1);
    assert.match(err, /it does not answer/);
  } finally {
    silent.closeAllConnections();
    silent.close();
  }
});

test('health --ready ends with 1 while something is missing, and health while only a restart helps', async () => {
  const dir = runDir();
  await using scope = new AsyncDisposableStack();
  const { engine } = scope.use(makeRig());
  let ill: object = {};
  const answer = (ready: boolean) => ({
    ...{ host: 'node1', pid: 17, bus: null, ...ill },
    ...(ready && { missing: [{ part: 'runtime', what: 'it does not answer' }] }),
  });
  scope.use(await listenOnSocket(join(dir, 'agent.sock'), engine, answer, new AbortController().signal));

  assert.equal((await health(dir)).code, 0);
  const refused = await health(dir, '--ready');
  assert.equal(refused.code, 1);
  assert.match(refused.err, /Cannot call the agent ready: pid 17: runtime: it does not answer/);

  ill = { ill: 'the journal cannot be brought to the disk' };
  const dying = await health(dir);
  assert.equal(dying.code, 1);
  assert.match(dying.err, /Cannot call the agent alive.*journal.*start it anew/);
});
