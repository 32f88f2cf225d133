/** A real agent and a real router, scraped by a real Prometheus: every query of the dashboard finds something, every alert's series are there. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { load } from 'js-yaml';
import { BusWorld, uuidOf } from '../../e2e/bus-world.ts';
import { versioned } from '../../e2e/notes.ts';
import { CLI } from '../../e2e/world.ts';
import { freePort } from '../../rig/ports.ts';
import { type Prometheus, startPrometheus } from '../../rig/prometheus.ts';
import { until } from '../bus/helpers.ts';

const MONITORING = fileURLToPath(new URL('../../../deploy/monitoring', import.meta.url));
const ALERTS = join(MONITORING, 'alerts.yaml');
const C1 = uuidOf('c1');
/** Queries that find something only while something is wrong: what the last test breaks. */
const NEED_A_FAULT = [/^shiftvol_part_ok\{.*\} == 0$/];

let bus: BusWorld;
let prometheus: Prometheus;
let [agentUrl, routerUrl] = ['', ''];
const scope = new AsyncDisposableStack();

before(async () => {
  bus = scope.use(await BusWorld.make({ durable: false }));
  const [agent, router] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  [agentUrl, routerUrl] = [`http://${agent}`, `http://${router}`];
  await bus.world.lxd.launch('c1', { 'user.nova_uuid': C1 });
  Object.assign(bus.world.env, { SHIFTVOL_HTTP_LISTEN: agent });
  await bus.serve();
  assert.equal((await bus.world.cli('idmap', 'alloc', 'c1')).code, 0);
  scope.defer(await startRouter(router));
  prometheus = scope.use(
    await startPrometheus({ targets: { shiftvol: agent, 'shiftvol-router': router }, rules: [ALERTS] }),
  );
});
after(async () => await scope.disposeAsync());

async function startRouter(listen: string): Promise<() => Promise<void>> {
  const { env } = bus.world;
  const child = spawn(process.execPath, [CLI, 'route'], {
    env: { ...env, SHIFTVOL_TRANSPORT_URL: bus.rabbit.url, SHIFTVOL_HTTP_LISTEN: listen },
    stdio: 'ignore',
  });
  const ended = once(child, 'close');
  await until('the router is ready', async () => (await status(`http://${listen}/readyz`)) === 200);
  return async () => {
    child.kill('SIGTERM');
    await ended;
  };
}

const get = async (url: string) => await (await fetch(url)).text();
const status = async (url: string) => (await fetch(url).catch(() => undefined))?.status;

/** The dashboard's queries, as Grafana would send them. */
function queries(): readonly string[] {
  const { panels } = JSON.parse(readFileSync(join(MONITORING, 'dashboard.json'), 'utf8'));
  return panels
    .flatMap(({ targets = [] }: { targets?: { expr: string }[] }) => targets)
    .map(({ expr }: { expr: string }) => expr.replaceAll('$__rate_interval', '20s').replaceAll('$instance', '.*'));
}

/** What the alerts ask. */
function expressions(): string {
  const { groups } = load(readFileSync(ALERTS, 'utf8')) as { groups: { rules: { expr: string }[] }[] };
  return groups.flatMap(({ rules }) => rules.map(({ expr }) => expr)).join('\n');
}

let attaches = 0;
/** What an agent does in its days: told by the bus and by hand, well and not. */
async function work(): Promise<void> {
  const n = ++attaches;
  const about = { instance: C1, volume: uuidOf(`v${n}`) };
  await bus.publish(versioned('instance-volume_attach-end', { ...about, request: `req-a${n}` }));
  await bus.untilTold(`req-a${n}`, 'attach.end');
  await bus.publish(versioned('instance-volume_detach-start', { ...about, request: `req-d${n}` }));
  await bus.untilTold(`req-d${n}`, 'detach.end');
  await bus.publish(versioned('instance-volume_attach-end', { ...about, host: 'elsewhere', request: `req-x${n}` }));
  assert.notEqual((await bus.world.cli('attach', 'c1', 'none:/mnt/none', '--snapshot')).code, 0);
}

test('agent and router are alive and ready, and say so', async () => {
  for (const url of [agentUrl, routerUrl]) {
    assert.equal(JSON.parse(await get(`${url}/healthz`)).alive, true);
    assert.deepEqual(JSON.parse(await get(`${url}/readyz`)), { ready: true, missing: [] });
  }
  const { code, stdout } = await bus.world.cli('health', '--ready', '--json');
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(stdout).missing, []);
});

test('every query of the dashboard finds something', async () => {
  await work();
  await work();
  const asked = queries().filter(query => !NEED_A_FAULT.some(pattern => pattern.test(query)));
  assert.ok(asked.length > 40);

  const silent = new Set(asked);
  await until('all have found something', async () => {
    for (const query of silent) if ((await prometheus.query(query)).length > 0) silent.delete(query);
    return silent.size === 0;
  }).catch(() => undefined);

  assert.deepEqual([...silent], []);
});

test('what is told adds up: commands, messages, attachments', async () => {
  const value = async (query: string) => (await prometheus.query(query)).reduce((sum, { value }) => sum + value, 0);

  assert.equal(await value('shiftvol_command_duration_seconds_count{action="attach", outcome="done"}'), attaches);
  assert.equal(await value('shiftvol_command_errors_total{code="SV_TEMPLATE_NOT_FOUND"}'), attaches);
  assert.equal(await value('shiftvol_bus_messages_total{outcome="handled"}'), 2 * attaches);
  assert.equal(await value('shiftvol_attachments{state="attached"}'), 0);
  assert.equal(await value('shiftvol_attachments{state="detached"}'), attaches);
  assert.equal(await value('shiftvol_pool_objects{kind="template"}'), 2);
  assert.equal(await value('shiftvol_scrape_errors_total'), 0);
  assert.equal(await value('shiftvol_bus_ignored_total{reason="other-host"}'), attaches);
  assert.equal(await value('shiftvol_id_instances'), 1);
  assert.equal(await value('shiftvol_id_space_used'), 65536);
});

test('promtool has nothing to say against the metrics, in both formats Prometheus reads them, and no instance is a label', async () => {
  for (const url of [agentUrl, routerUrl]) {
    const text = await get(`${url}/metrics`);
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
    assert.equal(status, 0, stdout + stderr);
    for (const secret of [C1, '"c1"', 'guest', ...Array.from({ length: attaches }, (_, n) => uuidOf(`v${n + 1}`))])
      assert.ok(!text.includes(secret), secret);
  }
});

test('every series that an alert looks at is there, and nothing fires', async () => {
  const told = (await get(`${agentUrl}/metrics`)) + (await get(`${routerUrl}/metrics`));
  const names = new Set(expressions().match(/\bshiftvol_[a-z_]+/g));
  const there = new Set(told.match(/^shiftvol_[a-z_]+(?=[{ ])/gm));

  assert.ok(names.size > 15, String(names.size));
  assert.deepEqual(
    [...names].filter(name => !there.has(name)),
    [],
  );
  assert.deepEqual(await prometheus.query('ALERTS{alertstate="firing"}'), []);
});

test('without its broker an agent lives, and is not ready: probes, health and metrics say it alike', async () => {
  await bus.stopRabbit();

  await until('the agent notices', async () => (await status(`${agentUrl}/readyz`)) === 503);

  assert.equal(await status(`${agentUrl}/healthz`), 200);
  assert.match(await get(`${agentUrl}/readyz`), /"part":"bus","what":"not subscribed to queue/);
  assert.equal((await bus.world.cli('health')).code, 0);
  const { code, stderr } = await bus.world.cli('health', '--ready');
  assert.equal(code, 1);
  assert.match(stderr, /bus: not subscribed to queue "shiftvol\.node1"/);
  await until('the router notices', async () => (await status(`${routerUrl}/readyz`)) === 503);
  for (const query of queries().filter(query => NEED_A_FAULT.some(pattern => pattern.test(query))))
    await until(`something is found by ${query}`, async () => (await prometheus.query(query)).length > 0);
  const pending = async () => (await prometheus.query('ALERTS')).map(({ metric }) => metric['alertname']);
  await until('alerts are on their way', async () => {
    const now = await pending();
    return ['ShiftvolNotReady', 'ShiftvolNotSubscribed', 'ShiftvolRouterNotSubscribed'].every(name =>
      now.includes(name),
    );
  });
});
