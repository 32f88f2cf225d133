import assert from 'node:assert/strict';
import { test } from 'node:test';
import { routedChannel } from '../../../src/bus/router.ts';
import { asked, commandChannel, requestChannel } from '../../../src/engine/channels.ts';
import type { AttachCommand, Outcome, Plan } from '../../../src/engine/model.ts';
import { stepChannel } from '../../../src/engine/saga.ts';
import { type Code, ShiftvolError } from '../../../src/errors.ts';
import { agentMetrics } from '../../../src/metrics/agent.ts';
import { brokerOf } from '../../../src/metrics/bus.ts';
import { type Metrics, newMetrics } from '../../../src/metrics/client.ts';
import { countRequests } from '../../../src/metrics/requests.ts';
import { routerMetrics } from '../../../src/metrics/router.ts';
import { countEngine } from '../../../src/metrics/steps.ts';

const plan = (source: Plan['source']) =>
  ({ id: 'a', instance: 'secret-instance', source, runtime: 'lxd' }) as unknown as Plan;
const template = plan({ kind: 'template', template: 'secret-template' });
const step = (name: string, ms: number, of = template, error?: unknown) =>
  stepChannel.publish({
    attachment: 'a',
    instance: 'secret-instance',
    step: name,
    ms,
    plan: of,
    ...(error !== undefined && { error }),
  });

async function samples(metrics: Metrics, pattern: RegExp): Promise<readonly string[]> {
  return (await metrics.registry.metrics()).split('\n').filter(line => pattern.test(line));
}

test('steps are counted by what they are, never by whose they are', async () => {
  const metrics = newMetrics();
  using _ = countEngine(metrics);

  step('mount', 3);
  step('undo mount', 700, template, new Error('busy'));
  step('something-new', 1);
  step('connect', 20, plan({ kind: 'connection', connection: { type: 'rbd' } } as unknown as Plan['source']));

  assert.deepEqual(await samples(metrics, /^shiftvol_step_duration_seconds_count/), [
    'shiftvol_step_duration_seconds_count{step="mount",direction="do",source="template",runtime="lxd",outcome="ok"} 1',
    'shiftvol_step_duration_seconds_count{step="mount",direction="undo",source="template",runtime="lxd",outcome="error"} 1',
    'shiftvol_step_duration_seconds_count{step="other",direction="do",source="template",runtime="lxd",outcome="ok"} 1',
    'shiftvol_step_duration_seconds_count{step="connect",direction="do",source="rbd",runtime="lxd",outcome="ok"} 1',
  ]);
  assert.deepEqual(await samples(metrics, /^shiftvol_undo_failures_total.*[1-9]$/), [
    'shiftvol_undo_failures_total{step="mount"} 1',
  ]);
  assert.deepEqual(await samples(metrics, /bucket\{le="(0.0025|0.005)",step="mount",direction="do"/), [
    'shiftvol_step_duration_seconds_bucket{le="0.0025",step="mount",direction="do",source="template",runtime="lxd",outcome="ok"} 0',
    'shiftvol_step_duration_seconds_bucket{le="0.005",step="mount",direction="do",source="template",runtime="lxd",outcome="ok"} 1',
  ]);
  assert.deepEqual(await samples(metrics, /secret/), []);
});

test('a command’s outcome tells what lies in the question from what lies in this host', async () => {
  const metrics = newMetrics();
  using _ = countEngine(metrics);
  const command: AttachCommand = {
    action: 'attach',
    instance: { ref: 'secret-instance' },
    target: '/mnt/a',
    source: { kind: 'device', path: '/dev/sdx' },
    readOnly: false,
  };
  const run = (work: () => Promise<Partial<Outcome>>) =>
    commandChannel.tracePromise(work, { command, host: 'h' }).catch(() => undefined);
  const failing = (code: Code) => run(() => Promise.reject(new ShiftvolError(code, 'no')));

  await run(async () => ({ changed: true }));
  await run(async () => ({ changed: false }));
  await failing('SV_BUSY');
  await failing('SV_KERNEL');
  const pending = Promise.withResolvers<Partial<Outcome>>();
  const last = run(() => pending.promise);

  assert.deepEqual(
    (await samples(metrics, /^shiftvol_command_duration_seconds_count/)).map(line =>
      /outcome="(\w+)"} (\d)/.exec(line)?.slice(1),
    ),
    [
      ['done', '1'],
      ['unchanged', '1'],
      ['refused', '1'],
      ['failed', '1'],
    ],
  );
  assert.deepEqual(await samples(metrics, /^shiftvol_command_errors_total/), [
    'shiftvol_command_errors_total{action="attach",code="SV_BUSY"} 1',
    'shiftvol_command_errors_total{action="attach",code="SV_KERNEL"} 1',
  ]);
  assert.deepEqual(await samples(metrics, /^shiftvol_commands_running/), ['shiftvol_commands_running 1']);
  pending.resolve({ changed: true });
  await last;
  assert.deepEqual(await samples(metrics, /^shiftvol_commands_running/), ['shiftvol_commands_running 0']);
});

test('nobody listens after the end', () => {
  const [engine, requests] = [countEngine(newMetrics()), countRequests(newMetrics())];
  assert.ok(stepChannel.hasSubscribers && commandChannel.hasSubscribers && requestChannel.hasSubscribers);

  engine[Symbol.dispose]();
  requests[Symbol.dispose]();

  assert.equal(stepChannel.hasSubscribers, false);
  assert.equal(commandChannel.hasSubscribers, false);
  assert.equal(requestChannel.hasSubscribers, false);
});

test('a notification’s age is from when it was sent; one that is put aside has not come to its end', async () => {
  const metrics = newMetrics();
  using requests = countRequests(metrics);
  const sentAt = new Date(Date.now() - 40_000).toISOString();
  const delivery = { exchange: 'nova', routingKey: 'x', bodyBytes: 1, sentAt };
  const { promise, resolve } = Promise.withResolvers<void>();

  const first = asked(
    () => ({ by: 'notification', name: 'e', delivery }),
    () => promise,
  );
  await asked(
    () => ({ by: 'notification', name: 'e', delivery }),
    async request => {
      if (request) Object.assign(request, { outcome: 'retry', failure: new Error('later') });
    },
  );
  requests.update();

  const [oldest] = await samples(metrics, /^shiftvol_bus_message_oldest_seconds/);
  assert.ok(Math.abs(Number(oldest?.split(' ')[1]) - 40) < 5, oldest);
  assert.deepEqual(await samples(metrics, /^shiftvol_bus_message_age_seconds_count/), [
    'shiftvol_bus_message_age_seconds_count 0',
  ]);
  resolve();
  await first;
  requests.update();
  assert.deepEqual(await samples(metrics, /^shiftvol_bus_message_age_seconds_count/), [
    'shiftvol_bus_message_age_seconds_count 1',
  ]);
  assert.deepEqual(await samples(metrics, /^shiftvol_bus_message_oldest_seconds/), [
    'shiftvol_bus_message_oldest_seconds 0',
  ]);
  assert.deepEqual(await samples(metrics, /^shiftvol_request_duration_seconds_count/), [
    'shiftvol_request_duration_seconds_count{by="notification",outcome="error"} 1',
    'shiftvol_request_duration_seconds_count{by="notification",outcome="ok"} 1',
  ]);
});

test('a broker’s label has no user in it', () => {
  assert.equal(brokerOf('rabbit://nova:***@h1:5672,nova:***@h2:5672/cloud?ssl=true'), 'rabbit://h1:5672,h2:5672/cloud');
  assert.equal(brokerOf('rabbit://h1:5672/'), 'rabbit://h1:5672/');
});

test('what cannot be found out is counted, and the rest is told', async () => {
  const metrics = newMetrics();
  const update = agentMetrics(metrics, {
    spares: () => 0,
    census: () => ({ attachments: { attached: 3 }, allocations: 2, tasks: 0, events: 1, bytes: 4096 }),
    canSync: () => false,
    ids: async () => Promise.reject(new Error('the runtime is away')),
    room: () => {
      throw new Error('no pool');
    },
    recovered: () => ({
      at: 5000,
      attachments: [{ did: 'left' }, { did: 'undone' }],
      tasks: [],
      leftovers: [{ kind: 'device' }],
    }),
  });

  await update();

  const told = await samples(metrics, /^shiftvol_(scrape|attach|journal_sync|recover_left)/);
  assert.deepEqual(told, [
    'shiftvol_scrape_errors_total{part="journal"} 0',
    'shiftvol_scrape_errors_total{part="pool"} 1',
    'shiftvol_scrape_errors_total{part="recover"} 0',
    'shiftvol_scrape_errors_total{part="ids"} 1',
    'shiftvol_attachments{state="attached"} 3',
    'shiftvol_journal_sync_failed 1',
    'shiftvol_recover_left{kind="attachment"} 1',
    'shiftvol_recover_left{kind="task"} 0',
    'shiftvol_recover_leftovers{kind="snapshot"} 0',
    'shiftvol_recover_leftovers{kind="device"} 1',
    'shiftvol_recover_leftovers{kind="attachment"} 0',
    'shiftvol_recover_leftovers{kind="unseen"} 0',
  ]);
});

test('a router tells what became of messages, and how long it had them', async () => {
  const metrics = newMetrics();
  const ignored = { 'other-event': 4, 'no-host': 1 } as never;
  using counted = routerMetrics(metrics, () => ({
    healthy: true,
    listen: [
      {
        url: 'rabbit://u:***@b:5672/',
        queue: 'q',
        subscribed: true,
        exchanges: {},
        working: 3,
        backlog: { waiting: 9, deadLetters: 0 },
        counters: { received: 10, routed: 2, unrouted: 1, dead: 0, requeued: 0, ignored },
      },
    ],
  }));
  routedChannel.publish({ ms: 4 });
  counted.update();

  const told = await samples(
    metrics,
    /^shiftvol_router_(messages_total.*(routed|ignored)|unconfirmed|duration_seconds_sum|queue)/,
  );
  assert.deepEqual(told, [
    'shiftvol_router_messages_total{broker="rabbit://b:5672/",queue="q",outcome="routed"} 2',
    'shiftvol_router_messages_total{broker="rabbit://b:5672/",queue="q",outcome="unrouted"} 1',
    'shiftvol_router_messages_total{broker="rabbit://b:5672/",queue="q",outcome="ignored"} 5',
    'shiftvol_router_unconfirmed{broker="rabbit://b:5672/",queue="q"} 3',
    'shiftvol_router_queue_messages{broker="rabbit://b:5672/",queue="q"} 9',
    'shiftvol_router_duration_seconds_sum 0.004',
  ]);
});
