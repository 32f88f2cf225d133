import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openMonitor } from '../../../src/cli/monitor.ts';
import { loadConfig } from '../../../src/config/load.ts';
import type { Route } from '../../../src/http/listener.ts';
import { Health } from '../../../src/metrics/health.ts';
import { freePort } from '../../rig/ports.ts';

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const page: Route = { method: 'GET', path: '/page/', handle: (_request, response) => void response.end('the page') };

async function open(listen: string | null, metrics = true): Promise<AsyncDisposable> {
  const { http, ...config } = loadConfig({ config: '/dev/null' }, {});
  return await openMonitor({
    config: { ...config, http: { ...http, listen, metrics } },
    role: 'router',
    health: new Health([]),
    log: quiet,
    fill: () => [],
    routes: [page],
  });
}

const status = async (url: string) => (await fetch(url).catch(() => undefined))?.status;

test('health is answered where the port is open, metrics where they are wanted, and what others hung in', async () => {
  const [one, other] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  await using _one = await open(one);
  await using _other = await open(other, false);

  for (const path of ['/healthz', '/readyz', '/metrics', '/page/'])
    assert.equal(await status(`http://${one}${path}`), 200, path);
  assert.equal(await (await fetch(`http://${one}/page/`)).text(), 'the page');
  assert.equal(await status(`http://${other}/metrics`), 404);
  assert.equal(await status(`http://${other}/healthz`), 200);
});

test('without an address nothing is opened', async () => {
  await using _ = await open(null);
});

test('an address that another has is an error, one that this host does not have yet is waited for', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  try {
    const taken = other.address();
    assert.ok(taken !== null && typeof taken === 'object');
    await assert.rejects(open(`127.0.0.1:${taken.port}`), { code: 'SV_CONFIG', field: 'http.listen' });
  } finally {
    other.close();
  }

  // TEST-NET-1, which nobody has: opened at once, and closed at once.
  const started = performance.now();
  {
    await using _ = await open('192.0.2.254:9477');
  }
  assert.ok(performance.now() - started < 1000);
});

test('it listens once the address has come', { skip: process.geteuid?.() !== 0 && 'needs root' }, async () => {
  const ip = (...args: readonly string[]) =>
    spawnSync('ip', ['address', ...args, '198.51.100.254/32', 'dev', 'lo']).status;
  const port = await freePort();
  await using _ = await open(`198.51.100.254:${port}`);
  const alive = setTimeout(() => {}, 20_000);
  assert.equal(ip('add'), 0);
  try {
    let found: number | undefined;
    for (let n = 0; n < 200 && found === undefined; n++)
      found = (await status(`http://198.51.100.254:${port}/healthz`)) ?? (await sleep(50));
    assert.equal(found, 200);
  } finally {
    ip('delete');
    clearTimeout(alive);
  }
});
