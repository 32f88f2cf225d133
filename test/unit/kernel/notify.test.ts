/** A service manager is stood for by a datagram socket of Python's, since Node has none. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { supervisor } from '../../../src/cli/supervisor.ts';
import { isErrno } from '../../../src/kernel/errno.ts';
import { notify } from '../../../src/kernel/notify.ts';

const dir = mkdtempSync(join(tmpdir(), 'shiftvol-notify-'));
after(() => rmSync(dir, { recursive: true }));

const MANAGER = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace('@', chr(0), 1))
print('"listens"', flush=True)
while True: print(json.dumps(s.recv(4096).decode()), flush=True)`;

/** Gives what it hears, one text after the other. */
async function manager(address: string) {
  const child = spawn('python3', ['-c', MANAGER, address], { stdio: ['ignore', 'pipe', 'inherit'] });
  const heard = createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => JSON.parse((await heard.next()).value ?? 'null');
  assert.equal(await next(), 'listens');
  return {
    next,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}
const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

for (const [kind, address] of [
  ['a path', join(dir, 'notify')],
  ['an abstract name', `@shiftvol-test-${process.pid}`],
] as const)
  test(`a service manager at ${kind} hears what it is told`, async () => {
    await using listening = await manager(address);

    notify(address, 'READY=1\nSTATUS=here');

    assert.equal(await listening.next(), 'READY=1\nSTATUS=here');
  });

test('one that is not there is told of by its errno, and so is an address that cannot be', () => {
  assert.throws(
    () => notify(join(dir, 'nobody'), 'READY=1'),
    error => isErrno(error, 'ENOENT'),
  );
  for (const prefix of ['/', '@'])
    assert.throws(
      () => notify(prefix + 'x'.repeat(200), 'READY=1'),
      error => isErrno(error, 'EINVAL'),
    );
});

test('ready is told once, the watchdog fed from then on, and what we start does not see the socket', async () => {
  const address = join(dir, 'watchdog');
  await using listening = await manager(address);
  const env: NodeJS.ProcessEnv = { NOTIFY_SOCKET: address, WATCHDOG_USEC: '20000', WATCHDOG_PID: String(process.pid) };

  using told = await supervisor(quiet, env);
  told.ready('host node1');
  const alive = setTimeout(() => {}, 5000); // the watchdog's own timer keeps nothing alive
  const first = [await listening.next(), await listening.next(), await listening.next()];
  clearTimeout(alive);
  told.stopping();

  assert.deepEqual(env, {});
  assert.deepEqual(first, ['READY=1\nSTATUS=host node1', 'WATCHDOG=1', 'WATCHDOG=1']);
});

test('the watchdog of another process is not fed, and without a manager nothing is told', async () => {
  const address = join(dir, 'other');
  await using listening = await manager(address);

  using told = await supervisor(quiet, { NOTIFY_SOCKET: address, WATCHDOG_USEC: '2000', WATCHDOG_PID: '1' });
  told.ready('x');
  await new Promise(resolve => setTimeout(resolve, 20));
  told.stopping();
  using nobody = await supervisor(quiet, {});
  nobody.ready('x');

  assert.deepEqual([await listening.next(), await listening.next()], ['READY=1\nSTATUS=x', 'STOPPING=1']);
});

test('who says that only a restart mends him is not fed, and why is told instead', async () => {
  const address = join(dir, 'ill');
  await using listening = await manager(address);

  using told = await supervisor(quiet, { NOTIFY_SOCKET: address, WATCHDOG_USEC: '20000' });
  told.ready('host node1', () => 'the journal is lost');
  const alive = setTimeout(() => {}, 5000);

  assert.deepEqual(
    [await listening.next(), await listening.next(), await listening.next()],
    ['READY=1\nSTATUS=host node1', 'STATUS=the journal is lost', 'STATUS=the journal is lost'],
  );
  clearTimeout(alive);
});
