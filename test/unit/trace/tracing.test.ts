import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { SpanStatusCode } from '@opentelemetry/api';
import { AlwaysOnSampler, InMemorySpanExporter, type ReadableSpan, TracerProvider } from '@opentelemetry/sdk-trace';
import { asked, commandChannel, requestChannel, toldChannel } from '../../../src/engine/channels.ts';
import { EventMaker } from '../../../src/engine/events.ts';
import type { AttachCommand, AttachmentEvent, Outcome } from '../../../src/engine/model.ts';
import { timed } from '../../../src/engine/saga.ts';
import { ShiftvolError } from '../../../src/errors.ts';
import { SpanQueue } from '../../../src/trace/queue.ts';
import { Tracing } from '../../../src/trace/tracing.ts';
import { planFor } from './samples.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

function traced(tells: boolean) {
  const exporter = new InMemorySpanExporter();
  const queue = new SpanQueue(exporter, 'http://c', quiet);
  const provider = new TracerProvider({ sampler: new AlwaysOnSampler(), spanProcessors: [queue] });
  const tracing = new Tracing({ tracer: provider.getTracer('t'), queue }, { tells, log: quiet });
  const spans = async (): Promise<readonly ReadableSpan[]> => {
    await queue.forceFlush();
    return exporter.getFinishedSpans();
  };
  return { tracing, spans, [Symbol.asyncDispose]: () => tracing[Symbol.asyncDispose]() };
}

/** As the engine does. Returns the event of the end. */
async function attach(name: string, fails = false): Promise<AttachmentEvent | undefined> {
  const plan = planFor(name);
  const { source, target } = plan;
  const instance = { ref: plan.instance };
  const command: AttachCommand = { action: 'attach', instance, target, source, readOnly: false };
  let told: AttachmentEvent | undefined;
  const work = async (): Promise<Outcome> => {
    const events = new EventMaker(command, plan.instance, 'node1', performance.now());
    events.start(plan.id);
    for (const step of ['snapshot', 'mount'])
      await timed(plan, step, [], async () => {
        await new Promise(setImmediate);
        if (fails && step === 'mount') throw new ShiftvolError('SV_MOUNT', 'Cannot mount');
      });
    told = events.end(plan.id, []);
    return { action: 'attach', changed: true, attachments: [], durationMs: 1, steps: [] };
  };
  const execute = () => commandChannel.tracePromise(work, { command, host: 'node1' });
  await asked(() => ({ by: 'call', name: `attach_${name}`, requestId: `req-${name}` }), execute);
  return told;
}

test('many at once are not mixed up: each step is below its own command, and that below its own request', async () => {
  await using seen = traced(false);
  const names = Array.from({ length: 20 }, (_, i) => `v${i}`);

  await Promise.all(names.map(name => attach(name)));

  const spans = await seen.spans();
  assert.equal(spans.length, names.length * 4);
  const byId = new Map(spans.map(s => [s.spanContext().spanId, s]));
  for (const step of spans.filter(s => s.name === 'mount')) {
    const command = byId.get(step.parentSpanContext?.spanId ?? '');
    const root = byId.get(command?.parentSpanContext?.spanId ?? '');
    assert.equal(command?.name, 'attach');
    const instance = step.attributes['openstack.instance_uuid'];
    assert.equal(command.attributes['openstack.instance_uuid'], instance);
    assert.equal(root?.name, String(instance).replace('instance-', 'attach_'));
  }
});

test('an error is on the step, the command and the request', async () => {
  await using seen = traced(false);

  await assert.rejects(attach('one', true), { code: 'SV_MOUNT' });

  const failed = (await seen.spans()).filter(s => s.status.code === SpanStatusCode.ERROR);
  assert.deepEqual(failed.map(s => s.name).toSorted(), ['attach', 'attach_one', 'mount']);
  for (const span of failed) assert.equal(span.attributes['error.type'], 'SV_MOUNT');
});

test('a request goes on until its end was told; where it never is, it has its own end', async () => {
  const seen = traced(true);
  const names = async () => (await seen.spans()).map(s => s.name).toSorted();

  const event = await attach('one');
  assert.deepEqual(await names(), ['attach', 'mount', 'snapshot']);
  assert.ok(event);
  toldChannel.publish({ event: { ...event }, exchange: 'shiftvol', ms: 0 });
  assert.deepEqual(await names(), ['attach', 'attach_one', 'mount', 'publish shiftvol', 'snapshot']);

  await attach('two');
  await seen[Symbol.asyncDispose]();
  assert.equal(requestChannel.hasSubscribers || commandChannel.hasSubscribers, false, 'nobody watches any more');
});

test('an agent that is not asked for traces loads none of OpenTelemetry', () => {
  const hook = `import { registerHooks } from 'node:module';
    registerHooks({ resolve(name, context, next) { if (name.startsWith('@opentelemetry')) console.log(name); return next(name, context); } });
    await import(${JSON.stringify(new URL('../../../src/cli/agent.ts', import.meta.url).href)});`;
  const load = (more: string) =>
    spawnSync(process.execPath, ['--input-type=module', '--eval', hook + more], { encoding: 'utf8' });

  const without = load('');
  assert.deepEqual([without.status, without.stdout, without.stderr], [0, '', '']);
  const start = new URL('../../../src/trace/start.ts', import.meta.url).href;
  assert.match(load(`await import(${JSON.stringify(start)});`).stdout, /@opentelemetry\/sdk-trace/);
});
