/**
 * What telling of an attach costs: `node --expose-gc test/bench/traces.ts`. The calls that the engine and the bus make for one attach, around work
 * that is none: bare, told to nobody (as it is unless somebody asks), told to the log's lines, and traced. In turns, in one process.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { asked, commandChannel } from '../../src/engine/channels.ts';
import { EventMaker } from '../../src/engine/events.ts';
import type { Command, Outcome, StepTiming } from '../../src/engine/model.ts';
import { timed } from '../../src/engine/saga.ts';
import { keepContext } from '../../src/log/context.ts';
import type { Log } from '../../src/log/log.ts';
import { openSdk } from '../../src/trace/sdk.ts';
import { Tracing } from '../../src/trace/tracing.ts';
import { planFor } from '../unit/trace/samples.ts';

const ROUNDS = 40;
/** Fewer spans than the queue has room for: all of them are sent. */
const ATTACHES = 300;
const STEPS = ['snapshot', 'device', 'mount', 'handoff'] as const;
const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} };
const plan = planFor('one');
const command: Command = {
  action: 'attach',
  instance: { ref: plan.instance },
  target: plan.target,
  source: plan.source,
  readOnly: false,
};
const outcome: Outcome = { action: 'attach', changed: true, attachments: [], durationMs: 1, steps: [] };

async function bare(): Promise<Outcome> {
  const timings: StepTiming[] = [];
  for (const step of STEPS) {
    const started = performance.now();
    await nothing();
    timings.push({ step, ms: Math.round((performance.now() - started) * 1000) / 1000 });
  }
  return outcome;
}

async function told(): Promise<Outcome> {
  const work = async () => {
    const events = new EventMaker(command, plan.instance, 'node1', performance.now());
    events.start(plan.id);
    const timings: StepTiming[] = [];
    for (const step of STEPS) await timed(plan, step, timings, nothing);
    events.end(plan.id, timings);
    return outcome;
  };
  const execute = () =>
    commandChannel.hasSubscribers ? commandChannel.tracePromise(work, { command, host: 'node1' }) : work();
  const describe = () => ({ by: 'notification' as const, name: 'volume.attach.end', instance: plan.instance });
  return await asked(describe, execute);
}

/** The events are made in any case. */
async function bareWithEvents(): Promise<Outcome> {
  const events = new EventMaker(command, plan.instance, 'node1', performance.now());
  events.start(plan.id);
  const done = await bare();
  events.end(plan.id, []);
  return done;
}

const nothing = async (): Promise<void> => {};

/** Of this thread's own time: others on the machine are not measured. */
async function microseconds(work: () => Promise<unknown>, after?: () => Promise<unknown>): Promise<number> {
  const before = process.threadCpuUsage();
  for (let i = 0; i < ATTACHES; i++) await work();
  await after?.();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / ATTACHES;
}

const collector = createServer((request, response) => {
  request.resume().once('end', () => response.writeHead(200, { 'content-type': 'application/json' }).end('{}'));
});
await new Promise<void>(resolve => collector.listen(0, '127.0.0.1', resolve));
const { port } = collector.address() as AddressInfo; // of a server on TCP
const settings = {
  url: `http://127.0.0.1:${port}/v1/traces`,
  sampleRatio: 1,
  serviceName: 'shiftvol',
  warnings: [],
};
const arms = {
  bare: async () => await microseconds(bareWithEvents),
  'told to nobody': async () => await microseconds(told),
  'told to the log': async () => {
    using _context = keepContext();
    return await microseconds(told);
  },
  traced: async () => {
    const sdk = openSdk(settings, 'node1', quiet);
    await using _tracing = new Tracing(sdk, { tells: false, log: quiet });
    return await microseconds(told);
  },
  'traced and sent': async () => {
    const sdk = openSdk(settings, 'node1', quiet);
    await using tracing = new Tracing(sdk, { tells: false, log: quiet });
    const took = await microseconds(told, () => sdk.queue.forceFlush());
    if (tracing.counters.dropped > 0) throw new Error('spans were dropped: that is not what is measured');
    return took;
  },
} as const satisfies Record<string, () => Promise<number>>;

const seen = new Map<string, number[]>();
for (let round = 0; round <= ROUNDS; round++) {
  for (const [name, arm] of Object.entries(arms)) {
    globalThis.gc?.();
    const took = await arm();
    if (round > 0) seen.set(name, [...(seen.get(name) ?? []), took]); // the first warms up
  }
}
// The clock of a thread's time ticks in milliseconds on some kernels: all rounds together say it.
for (const [name, took] of seen)
  console.log(`${name.padEnd(16)} ${(took.reduce((sum, us) => sum + us, 0) / took.length).toFixed(1)} µs an attach`);
collector.close();
collector.closeAllConnections();
