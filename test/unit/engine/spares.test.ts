import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { Spares, type SparesOptions } from '../../../src/engine/spares.ts';
import { ShiftvolError } from '../../../src/errors.ts';
import { FakeHost, TEMPLATE } from './fakes.ts';

function sparesOn(host: FakeHost, options: Partial<SparesOptions> = {}): Spares {
  return new Spares({
    backend: host.backend(),
    mounter: host.mounter(),
    count: 2,
    onError: assert.ifError,
    ...options,
  });
}

test('spares of a template are made after it was asked for first, and as many again after each that is given', async () => {
  const host = new FakeHost();
  await using spares = sparesOn(host);
  assert.equal(host.spares.size, 0);
  assert.equal(spares.take(TEMPLATE, 'web/1'), undefined);
  await spares.ready();
  assert.equal(host.spares.size, 2);
  assert.ok(spares.take(TEMPLATE, 'web/2'));
  assert.equal(host.spares.size, 1);
  await spares.ready();
  assert.equal(host.spares.size, 2);
  assert.deepEqual([...host.snapshots], ['web/2']);
});

test('commands that never pause do not keep them from being made for ever', async () => {
  const host = new FakeHost();
  await using spares = sparesOn(host, { count: 1 });
  while (host.spares.size === 0) {
    spares.take(TEMPLATE, 'web/none');
    await setImmediate();
  }
});

test('one snapshot gets one spare, however often the step is done, until it is mounted or dropped', async () => {
  const host = new FakeHost();
  await using spares = sparesOn(host);
  spares.take(TEMPLATE, 'web/0');
  await spares.ready();
  const first = spares.take(TEMPLATE, 'web/1');
  assert.ok(first);
  assert.equal(spares.take(TEMPLATE, 'web/1'), first);
  await spares.drop('web/1');
  assert.ok(!host.staged.has(first.devno));
  await spares.drop('web/1');
  // Its file is a snapshot by now: whoever asks again gets that.
  assert.equal(spares.take(TEMPLATE, 'web/1'), undefined);
});

test('what was made of a template is never given for another one of its name', async () => {
  const host = new FakeHost();
  await using spares = sparesOn(host);
  spares.take(TEMPLATE, 'web/1');
  await spares.ready();
  const another = { ...TEMPLATE, sha256: 'b'.repeat(64) };
  assert.equal(spares.take(another, 'web/2'), undefined);
  await spares.ready();
  assert.equal(host.spares.size, 2, 'those of the old one are gone');
  assert.ok(spares.take(another, 'web/3'));
});

test('a template that nobody asks for loses its spares, and so does the oldest of too many', async () => {
  const host = new FakeHost();
  await using spares = sparesOn(host, { keepMs: 100 });
  spares.take(TEMPLATE, 'web/1');
  await spares.ready();
  while (host.spares.size > 0) await sleep(20);
  assert.equal(host.staged.size, 0);

  await using many = sparesOn(host, { count: 1 });
  for (let i = 0; i < 17; i++) {
    many.take({ ...TEMPLATE, name: `t${i}` }, `t${i}/1`);
    await many.ready();
  }
  assert.equal(host.spares.size, 16);
});

test('where none can be made attaches go on without, and the next one tries again', async () => {
  const host = new FakeHost();
  const backend = host.backend();
  const told: unknown[] = [];
  let full = true;
  const make: typeof backend.spares.make = async template => {
    if (full) throw new ShiftvolError('SV_NO_SPACE', 'Cannot make snapshot: the pool is full');
    return await backend.spares.make(template);
  };
  await using spares = sparesOn(host, {
    backend: { ...backend, spares: { ...backend.spares, make } },
    onError: (error, template) => told.push([template, error instanceof ShiftvolError && error.code]),
  });
  spares.take(TEMPLATE, 'web/1');
  await spares.ready();
  assert.deepEqual(told, [['web', 'SV_NO_SPACE']]);
  full = false;
  spares.take(TEMPLATE, 'web/2');
  await spares.ready();
  assert.ok(spares.take(TEMPLATE, 'web/3'));
});

test('one whose mount fails leaves no file, and the end takes all away, also what is being made', async () => {
  const host = new FakeHost();
  const mounter = host.mounter();
  const { promise: staging, resolve: begun } = Promise.withResolvers<void>();
  const stage: typeof mounter.stage = (_image, _known, signal) => {
    begun();
    return new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
  };
  const spares = sparesOn(host, { mounter: { ...mounter, stage } });
  spares.take(TEMPLATE, 'web/1');
  await staging;
  assert.equal(host.spares.size, 1);
  await spares[Symbol.asyncDispose]();
  assert.equal(host.spares.size, 0);
  assert.equal(spares.take(TEMPLATE, 'web/2'), undefined);
  await sleep(30);
  assert.equal(host.spares.size, 0);
});
