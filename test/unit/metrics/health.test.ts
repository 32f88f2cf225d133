import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listen } from '../../../src/http/listener.ts';
import { newMetrics } from '../../../src/metrics/client.ts';
import { Health, type Part } from '../../../src/metrics/health.ts';
import { healthRoutes } from '../../../src/metrics/health-routes.ts';
import { healthMetrics } from '../../../src/metrics/readiness.ts';

const well: Part = { name: 'well', look: () => undefined };

test('who needs nothing that is missing is ready, and what is missing is named with why', async () => {
  const health = new Health([
    well,
    { name: 'away', look: () => 'it is away' },
    { name: 'broken', look: () => Promise.reject(new Error('it is broken')) },
  ]);

  assert.deepEqual(await new Health([well]).ready(), { ready: true, missing: [] });
  assert.deepEqual(await health.ready(), {
    ready: false,
    missing: [
      { part: 'away', what: 'it is away' },
      { part: 'broken', what: 'it is broken' },
    ],
  });
});

test('only what a restart mends ends a life', () => {
  const ill = new Health([
    { name: 'away', look: () => 'it is away' },
    { name: 'heart', vital: true, look: () => 'stopped' },
  ]);

  assert.equal(new Health([{ name: 'away', look: () => 'it is away' }]).alive(), undefined);
  assert.equal(ill.alive(), 'stopped');
  assert.deepEqual(ill.told(), { ill: 'stopped' });
});

test('many probes at once are one look, until something has changed', async () => {
  let looks = 0;
  const health = new Health([{ name: 'counted', look: async () => void looks++ }]);

  await Promise.all([health.ready(), health.ready(), health.ready()]);
  assert.equal(looks, 1);
  health.forget();
  await health.ready();
  assert.equal(looks, 2);
});

test('a part that does not answer is missing after two seconds', async () => {
  const never: Part['look'] = signal =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
  const alive = setInterval(() => undefined, 1000);

  const { ready, missing } = await new Health([{ name: 'hangs', look: never }]).ready();

  clearInterval(alive);
  assert.equal(ready, false);
  assert.match(missing[0]?.what ?? '', /timeout/);
});

test('/healthz and /readyz say it by their status, and in JSON; the metrics say the same', async () => {
  let [vital, bus]: (string | undefined)[] = [];
  const health = new Health([
    { name: 'journal', vital: true, look: () => vital },
    { name: 'bus', look: () => bus },
  ]);
  await using server = await listen({ address: '127.0.0.1:0', routes: healthRoutes(health) });
  const ask = async (path: string) => {
    health.forget();
    const response = await fetch(server.url + path);
    return [response.status, await response.json()];
  };
  const metrics = newMetrics();
  const update = healthMetrics(metrics, health);
  const told = async () => {
    await update();
    return (await metrics.registry.metrics()).split('\n').filter(line => line.startsWith('shiftvol_'));
  };

  assert.equal((await ask('/healthz'))[0], 200);
  assert.deepEqual(await ask('/readyz'), [200, { ready: true, missing: [] }]);
  assert.deepEqual(await told(), [
    'shiftvol_ready 1',
    'shiftvol_part_ok{part="journal"} 1',
    'shiftvol_part_ok{part="bus"} 1',
  ]);

  bus = 'not subscribed';
  assert.equal((await ask('/healthz'))[0], 200);
  assert.deepEqual(await ask('/readyz'), [503, { ready: false, missing: [{ part: 'bus', what: 'not subscribed' }] }]);
  assert.deepEqual(await told(), [
    'shiftvol_ready 0',
    'shiftvol_part_ok{part="journal"} 1',
    'shiftvol_part_ok{part="bus"} 0',
  ]);

  vital = 'no disk';
  const ill = await ask('/healthz');
  assert.equal(ill[0], 503);
  assert.match(JSON.stringify(ill[1]), /"why":"no disk"/);
});
