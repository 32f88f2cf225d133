/** A volume that stands still for others: streamed as it was at one moment, or frozen until they say so, or do not. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Host } from '../../src/cli/assemble.ts';
import { isError } from '../../src/errors.ts';
import { isFrozen, startWriter, VolumeWorld } from './volume-world.ts';

const never = new AbortController().signal;

let v: VolumeWorld;
before(async () => {
  v = await VolumeWorld.make();
});
after(async () => await v?.[Symbol.asyncDispose]());

async function withEngine(use: (host: Host) => Promise<void>): Promise<void> {
  await using host = await v.world.engine();
  await use(host);
}
const place = { instance: { ref: 'c1' }, target: '/mnt/v' };

test('an image is streamed as it was at one moment, its holes too, and nothing is left of it', async () => {
  const { image } = await v.attachWritten('ext4');
  await withEngine(async ({ engine }) => {
    const hash = createHash('sha256');
    let bytes = 0;
    {
      await using out = await engine.snapshots.exportImage(place, { signal: never });
      const [name = ''] = readdirSync(join(v.world.poolDir, 'saved')).flatMap(id =>
        readdirSync(join(v.world.poolDir, 'saved', id)).map(file => join(v.world.poolDir, 'saved', id, file)),
      );
      const whole = createHash('sha256').update(readFileSync(name)).digest('hex');
      await v.world.lxd.sh('c1', 'echo two > /mnt/v/marker; sync');
      for await (const chunk of out.stream) {
        bytes += chunk.length;
        hash.update(chunk);
      }
      assert.equal(bytes, out.sizeBytes);
      assert.equal(hash.digest('hex'), whole);
      // A recovery that comes meanwhile leaves it alone.
      assert.deepEqual((await engine.recover({ dryRun: false, signal: never })).tasks, []);
    }
    assert.equal(bytes, readFileSync(image).length);
  });
  await v.leave();
});

test('what is attached stands still for somebody else, and goes on when told', async () => {
  const { hostPath, id } = await v.attachWritten('xfs');
  await using writer = await startWriter(join(hostPath, 'clock'));
  await withEngine(async ({ engine }) => {
    await engine.standstills.freeze({ ref: 'c1' }, { deadlineMs: 10_000, signal: never });
    await engine.standstills.freeze({ ref: 'c1' }, { signal: never });
    await assert.rejects(
      engine.execute({ action: 'detach', instance: { ref: 'c1' }, target: '/mnt/v', lazy: false }, never),
      e => isError(e, 'SV_BUSY'),
    );
    // The moment is the caller's: no second freeze, no thaw.
    const saved = await engine.snapshots.create(place, 'quiet', { signal: never });
    assert.equal(saved.frozenMs, 0);
    assert.deepEqual((await engine.recover({ dryRun: false, signal: never })).tasks, []);
    const { frozenMs } = await engine.standstills.thaw({ ref: 'c1' }, never);
    assert.ok(frozenMs > 0);
    await assert.rejects(engine.standstills.thaw({ ref: 'c1' }, never), e => isError(e, 'SV_TIMEOUT'));
  });
  await writer.stop();
  assert.equal(isFrozen(hostPath), false);
  await v.cli('snapshot', 'remove', id, 'quiet');
  await v.leave();
});

test('whoever does not come back finds it thawed at the deadline, and is told', async () => {
  const { hostPath } = await v.attachWritten('xfs');
  await using writer = await startWriter(join(hostPath, 'clock'));
  // Long beside what a busy host takes to write out, which has half of it.
  const deadlineMs = 1000;
  await withEngine(async ({ engine }) => {
    const began = performance.now();
    await engine.standstills.freeze({ ref: 'c1' }, { deadlineMs, signal: never });
    const frozenAt = performance.now();
    await writer.waited(deadlineMs / 2);
    const ended = performance.now();
    assert.ok(ended - began >= deadlineMs, `${ended - began}`);
    assert.ok(ended - frozenAt < deadlineMs + 1500, `${ended - frozenAt}`);
    assert.equal(isFrozen(hostPath), false);
    await assert.rejects(engine.standstills.thaw({ ref: 'c1' }, never), e => isError(e, 'SV_TIMEOUT'));
  });
  await writer.stop();
  await v.leave();
});
