/** `events --follow` hears what an agent tells, through a real broker. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { followEvents, type HeardEvent } from '../../../src/bus/follow.ts';
import type { AttachmentEvent } from '../../../src/engine/model.ts';
import { isError } from '../../../src/errors.ts';
import { type Rabbit, startRabbit } from '../../rig/rabbit.ts';
import { configFor, MemoryOutbox, startBus } from './helpers.ts';

let rabbit: Rabbit;
before(async () => {
  rabbit = await startRabbit();
});
after(() => rabbit?.[Symbol.asyncDispose]());

const event: AttachmentEvent = {
  action: 'attach',
  phase: 'end',
  instance: 'c1',
  host: 'node1',
  at: '2026-01-01T00:00:00.000Z',
};

test('where no agent has told anything that is said', async () => {
  await assert.rejects(
    followEvents(configFor(rabbit.url), () => {}, new AbortController().signal),
    e => isError(e, 'SV_BUS'),
  );
  await assert.rejects(
    followEvents(configFor(rabbit.url, { listen: [] }), () => {}, new AbortController().signal),
    e => isError(e, 'SV_CONFIG'),
  );
});

test('what an agent tells is heard by each who follows, and ending it is no failure', async () => {
  const outbox = new MemoryOutbox();
  const config = configFor(rabbit.url);
  await using agent = startBus(config, async () => {}, outbox).bus;
  const heard: HeardEvent[] = [];
  const stop = new AbortController();
  const until = Date.now() + 10_000;
  while (!agent.status.healthy && Date.now() < until) await new Promise(resolve => setTimeout(resolve, 50));
  const first = Promise.withResolvers<void>();

  const following = followEvents(
    config,
    e => {
      heard.push(e);
      first.resolve();
    },
    stop.signal,
  );
  // Told again until the queue has been bound: nobody says when that is.
  const telling = setInterval(() => outbox.add(event), 200);
  await first.promise;
  clearInterval(telling);
  stop.abort();
  await following;

  assert.equal(heard[0]?.event, 'shiftvol.attach.end');
  assert.equal(heard[0]?.publisher, 'shiftvol.node1');
  assert.equal(heard[0]?.payload['instance_uuid'], 'c1');
});
