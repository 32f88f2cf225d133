import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WrapStep } from '../../../src/engine/saga.ts';
import { type Code, isError } from '../../../src/errors.ts';
import { callAgent } from '../../../src/http/agent-client.ts';
import { listenOnSocket } from '../../../src/http/agent-socket.ts';
import { makeRig, type Rig } from '../engine/fakes.ts';

const dir = mkdtempSync(join(tmpdir(), 'shiftvol-socket-'));
after(() => rmSync(dir, { recursive: true }));
let n = 0;
const newPath = () => join(dir, `${n++}.sock`);
const never = new AbortController().signal;
const code = (wanted: Code, pattern = /./) => {
  return (error: unknown) => isError(error, wanted) && pattern.test(error.message);
};
const listen = (path: string, rig: Rig) => listenOnSocket(path, rig.engine, () => ({ alive: true }), never);
const ATTACH = {
  command: 'execute',
  body: {
    action: 'attach',
    instance: { ref: 'c1' },
    target: '/mnt',
    source: { kind: 'template', template: 'web' },
    readOnly: false,
  },
} as const;

/** Bytes as they are, and all that comes back. */
async function raw(path: string, bytes: string | Buffer): Promise<string> {
  const socket = connect(path);
  socket.on('error', () => {}); // what came until then is looked at
  socket.end(bytes);
  return await text(socket);
}

/** A server that is no agent. */
async function impostor(answer: (socket: Socket) => void): Promise<AsyncDisposable & { readonly path: string }> {
  const path = newPath();
  const sockets = new Set<Socket>();
  const server = createServer(socket => {
    sockets.add(socket.on('error', () => {}));
    answer(socket);
  }).listen(path);
  await once(server, 'listening');
  return {
    path,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
const http = (status: number, body: string) => (socket: Socket) =>
  socket.once('data', () => socket.end(`HTTP/1.1 ${status} X\r\ncontent-length: ${body.length}\r\n\r\n${body}`));

/** Holds the step "mount" until it is let go, or given up. */
function held(): { wrap: WrapStep; reached: Promise<void>; letGo(): void } {
  const reached = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const wrap: WrapStep = step =>
    step.name !== 'mount'
      ? step
      : {
          ...step,
          do: async (input, signal) => {
            reached.resolve();
            await Promise.race([gate.promise, once(signal, 'abort')]);
            signal.throwIfAborted();
            return await step.do(input, signal);
          },
        };
  return { wrap, reached: reached.promise, letGo: gate.resolve };
}

test('the socket is root’s alone, answers, and is gone afterwards', async () => {
  using rig = makeRig();
  const path = newPath();
  {
    await using _socket = await listen(path, rig);

    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(await callAgent(path, { command: 'list' }), { result: [] });
  }
  assert.equal(existsSync(path), false);
  assert.equal(await callAgent(path, { command: 'list' }), undefined);
});

test('the agent’s errors come out of the client as they were', async () => {
  using rig = makeRig();
  const path = newPath();
  await using _socket = await listen(path, rig);

  await assert.rejects(callAgent(path, ATTACH), e => isError(e, 'SV_INSTANCE_NOT_FOUND') && e.field === 'instance');
});

test('there is one agent a socket: a second one is refused, and a dead one’s socket replaced', async () => {
  using rig = makeRig();
  const path = newPath();
  {
    await using _first = await listen(path, rig);
    await assert.rejects(listen(path, rig), code('SV_LOCKED'));
  }
  // A name that nobody listens behind any more.
  const dead = createServer().listen(`${path}.old`);
  await once(dead, 'listening');
  renameSync(`${path}.old`, path);
  dead.close();
  assert.ok(existsSync(path));
  await using _second = await listen(path, rig);
  assert.deepEqual(await callAgent(path, { command: 'list' }), { result: [] });
});

test('a socket is not put where others may write, nor over what is none, nor at a path that is too long', async () => {
  using rig = makeRig();
  const open = join(dir, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  const file = newPath();
  writeFileSync(file, 'precious');

  await assert.rejects(listen(join(open, 'agent.sock'), rig), code('SV_CONFIG', /others may write/));
  await assert.rejects(listen(file, rig), code('SV_CONFIG', /no socket/));
  await assert.rejects(listen(join(dir, 'x'.repeat(100)), rig), code('SV_CONFIG', /107/));
  assert.equal(statSync(file).size, 8);
});

for (const [what, bytes, status, answer] of [
  ['no HTTP', 'hello\r\n\r\n', 400, /^$/],
  ['no JSON', request('{'), 400, /"SV_MESSAGE".*not JSON/],
  ['a body of 64 KiB and more', request(`"${'x'.repeat(70_000)}"`), 400, /"SV_MESSAGE".*larger than 65536 bytes/],
  ['a body of 8 MiB', request(`"${'x'.repeat(8 << 20)}"`), 400, /"SV_MESSAGE".*larger than 65536 bytes/],
  ['an unknown path', 'GET /etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n', 400, /"SV_MESSAGE"/],
  ['an unknown command', request('{"command":"format"}'), 400, /"SV_MESSAGE".*command/],
] as const)
  test(`a request that is ${what} is refused, and the agent goes on`, async () => {
    using rig = makeRig();
    const path = newPath();
    await using _socket = await listen(path, rig);

    const [head = '', body = ''] = (await raw(path, bytes)).split('\r\n\r\n');

    assert.match(head, new RegExp(`^HTTP/1.1 ${status} `));
    assert.match(body, answer);
    assert.deepEqual(await callAgent(path, { command: 'list' }), { result: [] });
  });

function request(body: string): string {
  return `POST /v1/call HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
}

test('whoever hangs up gives up what was asked, and it is undone', async () => {
  const { wrap, reached } = held();
  using rig = makeRig(wrap);
  rig.host.addInstance('c1', 1_000_000);
  const path = newPath();
  await using _socket = await listen(path, rig);
  const stop = new AbortController();

  const call = callAgent(path, ATTACH, { signal: stop.signal });
  await reached;
  stop.abort();

  await assert.rejects(call, code('SV_CANCELLED'));
  for (let i = 0; i < 100 && rig.engine.list().length > 0; i++) await sleep(10);
  assert.deepEqual(rig.engine.list(), []);
  rig.host.assertClean();
});

test('a stop ends what is under way, and waits for nobody who sends half a request', async () => {
  const { wrap, reached, letGo } = held();
  using rig = makeRig(wrap);
  rig.host.addInstance('c1', 1_000_000);
  const path = newPath();
  const socket = await listen(path, rig);
  const half = connect(path);
  half.on('error', () => {});
  half.write('POST /v1/call HTTP/1.1\r\ncontent-le');

  const call = callAgent(path, ATTACH);
  await reached;
  const stopped = socket[Symbol.asyncDispose]();
  letGo();

  assert.ok(await call);
  await stopped;
  assert.equal(rig.engine.list()[0]?.status.state, 'attached');
  half.destroy();
});

test('an agent that works for long is waited for, one that does not answer is not', async () => {
  const { wrap, reached, letGo } = held();
  using rig = makeRig(wrap);
  rig.host.addInstance('c1', 1_000_000);
  const path = newPath();
  await using _socket = await listen(path, rig);
  const call = callAgent(path, ATTACH, { silenceMs: 20 });
  await reached;
  await sleep(200);
  letGo();
  assert.ok(await call);

  await using deaf = await impostor(() => {});
  await assert.rejects(callAgent(deaf.path, ATTACH, { silenceMs: 50 }), code('SV_AGENT', /does not answer/));
});

for (const [what, answer] of [
  ['no HTTP', (socket: Socket) => void socket.end('SSH-2.0-OpenSSH\r\n')],
  ['nothing at all', (socket: Socket) => void socket.end()],
  ['a page', http(404, '<html>')],
  ['JSON of another kind', http(200, '{"ok":true}')],
  ['an error of another kind', http(500, '{"error":{"code":"ENOENT","message":"x"}}')],
  ['a number', http(200, '7')],
] as const)
  test(`a server that answers with ${what} is told to be no agent`, async () => {
    await using other = await impostor(answer);

    await assert.rejects(callAgent(other.path, { command: 'list' }), code('SV_AGENT'));
  });
