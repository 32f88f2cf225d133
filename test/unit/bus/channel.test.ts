import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { setImmediate as soon } from 'node:timers/promises';
import fc from 'fast-check';
import { BusChannel } from '../../../src/bus/channel.ts';

/** What amqplib would tell the broker. */
class FakeRaw extends EventEmitter {
  readonly open = new Set<number>();
  frames = 0;
  ack({ fields }: { fields: { deliveryTag: number } }, allUpTo = false) {
    this.frames++;
    for (const tag of [...this.open])
      if (tag === fields.deliveryTag || (allUpTo && tag < fields.deliveryTag)) this.open.delete(tag);
  }
  nack(message: { fields: { deliveryTag: number } }) {
    this.ack(message);
  }
  async close() {}
}

async function channelOf(raw: FakeRaw): Promise<BusChannel> {
  const model = { createConfirmChannel: async () => raw };
  // As much of amqplib as is used here.
  return BusChannel.open({ model, broker: '', signal: new AbortController().signal } as unknown as Parameters<
    typeof BusChannel.open
  >[0]);
}
// As much of a message as is used here.
const message = (deliveryTag: number) => ({ fields: { deliveryTag } }) as unknown as Parameters<BusChannel['ack']>[0];

test('whatever is passed, worked on and settled in whatever order: nothing is acknowledged before it is done with', async () => {
  const step = fc.record({ how: fc.constantFrom('pass', 'work'), settles: fc.nat({ max: 3 }), rest: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 200 }), async steps => {
      const raw = new FakeRaw();
      const channel = await channelOf(raw);
      const working: number[] = [];
      for (const [i, { how, settles, rest }] of steps.entries()) {
        raw.open.add(i + 1);
        if (how === 'pass') channel.pass(message(i + 1));
        else working.push(i + 1);
        for (let n = 0; n < settles && working.length > 0; n++) {
          const [tag] = working.splice((i * 7) % working.length, 1);
          assert.equal((n % 2 === 0 ? channel.ack : channel.requeue).call(channel, message(tag ?? 0)), true);
        }
        if (rest) await soon();
        for (const tag of working) assert.ok(raw.open.has(tag), `${tag} is still worked on`);
      }
      await channel[Symbol.asyncDispose]();
      assert.deepEqual(
        [...raw.open].sort((a, b) => a - b),
        working.sort((a, b) => a - b),
      );
    }),
    { numRuns: 200 },
  );
});

test('a flood that nothing has to be done with takes one frame for sixteen messages', async () => {
  const raw = new FakeRaw();
  await using channel = await channelOf(raw);

  for (let tag = 1; tag <= 160; tag++) {
    raw.open.add(tag);
    channel.pass(message(tag));
  }
  await soon();

  assert.equal(raw.open.size, 0);
  assert.equal(raw.frames, 10);
});
