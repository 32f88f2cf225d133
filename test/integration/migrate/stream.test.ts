/** Streams between two real pools, also of different kinds: whole, cut, changed on the way. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isError } from '../../../src/errors.ts';
import { punchHole } from '../../../src/kernel/fallocate.ts';
import { ByteReader } from '../../../src/migrate/byte-reader.ts';
import { headerOf } from '../../../src/migrate/facts.ts';
import { BLOCK, readHead } from '../../../src/migrate/frame.ts';
import { Incoming, type Received } from '../../../src/migrate/incoming.ts';
import { blocksOf, findTemplate, receiveVolume } from '../../../src/migrate/receive.ts';
import { changedBytes, type Sent, sendVolume } from '../../../src/migrate/send.ts';
import { listTemplates } from '../../../src/storage/templates.ts';
import { ID, makeSite, type Site } from './support.ts';

const never = new AbortController().signal;
const MIB = 2 ** 20;
let a: Site;
let b: Site;
before(async () => {
  [a, b] = [await makeSite('xfs'), await makeSite('btrfs', 'xfs')];
});
after(() => {
  a?.[Symbol.dispose]();
  b?.[Symbol.dispose]();
});

const moving = { id: ID, role: 'volume', target: '/mnt/data', readOnly: false, instance: { ref: 'c1' } } as const;
type Options = { since?: string; withTemplate?: boolean; last?: boolean; has?: (block: string) => boolean };

async function stream(image: string, { since, withTemplate = false, last = true, has }: Options = {}) {
  const header = headerOf(moving, a.template, image, { withTemplate, last, ...(since !== undefined && { since }) });
  const sendable = {
    header,
    image,
    before: since ?? a.template.path,
    ...(withTemplate && { template: a.template.path }),
  };
  const chunks: Buffer[] = [];
  const sending = sendVolume(sendable, has ? { has } : {});
  for (;;) {
    const { done, value } = await sending.next();
    if (done === true) return { bytes: Buffer.concat(chunks), sent: value as Sent };
    chunks.push(value as Buffer);
  }
}

async function* cut(bytes: Buffer, pieces = 65_521): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += pieces) yield bytes.subarray(at, at + pieces);
}

async function receive(bytes: Buffer, to = b): Promise<Received & { path: string }> {
  const reader = new ByteReader(cut(bytes));
  const head = await readHead(reader);
  assert.ok(head?.kind === 'volume');
  using incoming = Incoming.open(to, head.header.attachment);
  const received = await receiveVolume(to, incoming, head.header, reader, { signal: never });
  return { ...received, path: incoming.path(received.image) };
}

const sum = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const files = (to: Site) => readdirSync(join(to.poolDir, 'incoming', ID)).toSorted();
function forget(to: Site): void {
  using incoming = Incoming.open(to, ID);
  incoming.remove();
}

function write(path: string, changes: readonly (readonly [at: number, bytes: Buffer])[]): void {
  const fd = openSync(path, 'r+');
  for (const [at, bytes] of changes) writeSync(fd, bytes, 0, bytes.length, at);
  closeSync(fd);
}

describe('a volume', () => {
  test('that differs from its template everywhere and nowhere arrives byte for byte, with the template', async () => {
    const image = a.snapshot('one');
    const fd = openSync(image, 'r+');
    ftruncateSync(fd, a.template.sizeBytes + 20 * MIB);
    await punchHole(fd, 8 * MIB, 3 * MIB, image);
    closeSync(fd);
    // In one block, over the edge of two, zeros over data, in the new end.
    write(image, [
      [5000, randomBytes(100)],
      [BLOCK - 50, randomBytes(100)],
      [12 * MIB, Buffer.alloc(MIB)],
      [a.template.sizeBytes + 19 * MIB, randomBytes(3 * 4096)],
    ]);
    const { bytes, sent } = await stream(image, { withTemplate: true });

    const { path, template } = await receive(bytes);

    assert.equal(sum(path), sum(image));
    assert.equal(findTemplate(b, a.template)?.name, template);
    assert.equal(template, `web-${a.template.sha256.slice(0, 12)}`, 'the other template of this name stays');
    assert.equal(listTemplates(b).length, 2);
    assert.ok(sent.changedBytes < 2 * MIB, `${sent.changedBytes}`);
    assert.deepEqual(files(b), [`image-${readVersion(path)}`, 'state.json']);
    assert.ok(
      changedBytes(path, findTemplate(b, a.template)?.path ?? '') < 3 * MIB,
      'it shares the rest with the template there',
    );
    forget(b);
  });

  test('with its template there already takes no more than what changed', async () => {
    const image = a.snapshot('small');
    write(image, [[40 * MIB, randomBytes(64 * 1024)]]);
    const { bytes } = await stream(image);
    assert.ok(bytes.length < 200 * 1024, `${bytes.length}`);
    assert.equal(sum((await receive(bytes)).path), sum(image));
    forget(b);
  });

  test('that is told as changes of a template that is not there is refused', async () => {
    using c = await makeSite('xfs', 'btrfs');
    const { bytes } = await stream(a.snapshot('lonely'));
    await assert.rejects(receive(bytes, c), e => isError(e, 'SV_TEMPLATE_NOT_FOUND'));
  });

  test('a second pass brings what changed since the first, and only that', async () => {
    const image = a.snapshot('passes');
    write(image, [[30 * MIB, randomBytes(8 * MIB)]]);
    const first = a.snapshot('passes-first', image);
    const one = await stream(first, { last: false });
    await receive(one.bytes);
    write(image, [
      [31 * MIB, randomBytes(100)],
      [60 * MIB, randomBytes(100)],
    ]);
    const second = a.snapshot('passes-second', image);

    const two = await stream(second, { since: first });

    assert.ok(one.bytes.length > 8 * MIB && two.bytes.length < 300 * 1024, `${one.bytes.length} ${two.bytes.length}`);
    assert.equal(sum((await receive(two.bytes)).path), sum(second));
    // It cannot be put upon anything else.
    await assert.rejects(receive(two.bytes), e => isError(e, 'SV_SNAPSHOT_NOT_FOUND'));
    forget(b);
    await assert.rejects(receive(two.bytes), e => isError(e, 'SV_SNAPSHOT_NOT_FOUND'));
    forget(b);
  });

  test('cut anywhere nothing looks finished, and the next try sends only what had not arrived', async () => {
    const image = a.snapshot('cut');
    write(image, [[20 * MIB, randomBytes(24 * MIB)]]);
    const { bytes } = await stream(image);
    await assert.rejects(receive(bytes.subarray(0, bytes.length / 2)), e => isError(e, 'SV_MESSAGE'));
    assert.ok(!files(b).includes('state.json'));
    // Cut once more, sooner: what the first try brought still counts.
    const again = new Set(blocksOf(b, ID));
    const second = await stream(image, { has: block => again.has(block) });
    await assert.rejects(receive(second.bytes.subarray(0, 500)), e => isError(e, 'SV_MESSAGE'));

    const has = new Set(blocksOf(b, ID));
    assert.equal(has.size, again.size);
    const rest = await stream(image, { has: block => has.has(block) });

    assert.ok(rest.sent.keptBytes >= 8 * MIB && rest.bytes.length < bytes.length - 7 * MIB, JSON.stringify(rest.sent));
    assert.equal(sum((await receive(rest.bytes)).path), sum(image));
    forget(b);
  });

  test('a block that was to be there and is another one is noticed, and then sent again', async () => {
    const image = a.snapshot('torn');
    write(image, [[20 * MIB, randomBytes(8 * MIB)]]);
    const { bytes } = await stream(image);
    await assert.rejects(receive(bytes.subarray(0, bytes.length - 100_000)));
    write(join(b.poolDir, 'incoming', ID, 'work'), [[20 * MIB + 5, Buffer.from('torn')]]);
    const lies = new Set(blocksOf(b, ID));
    const second = await stream(image, { has: block => lies.has(block) });

    await assert.rejects(receive(second.bytes), e => isError(e, 'SV_CHECKSUM'));

    const has = new Set(blocksOf(b, ID));
    const third = await stream(image, { has: block => has.has(block) });
    assert.equal(sum((await receive(third.bytes)).path), sum(image));
    forget(b);
  });

  test('one bit that is another one on the way is refused wherever it is', async () => {
    const image = a.snapshot('bits');
    write(image, [[20 * MIB, randomBytes(MIB)]]);
    const { bytes } = await stream(image);
    for (const at of [20, 100, 600, 1200, bytes.length / 2, bytes.length - 10].map(Math.floor)) {
      const wrong = Buffer.from(bytes);
      wrong.writeUInt8(wrong.readUInt8(at) ^ 4, at);
      await assert.rejects(
        receive(wrong),
        e => isError(e, 'SV_MESSAGE', 'SV_CHECKSUM', 'SV_TEMPLATE_NOT_FOUND'),
        `${at}`,
      );
    }
    forget(b);
  });

  test('two receivers of one volume do not meet', async () => {
    using _held = Incoming.open(b, ID);
    assert.throws(
      () => Incoming.open(b, ID),
      e => isError(e, 'SV_LOCKED'),
    );
  });

  test('a template that is sent with another sha256 than was announced does not come to be', async () => {
    using c = await makeSite('xfs', 'btrfs');
    const image = a.snapshot('liar');
    const header = headerOf(moving, { ...a.template, sha256: '1'.repeat(64) }, image, {
      withTemplate: true,
      last: true,
    });
    const sendable = { header, image, before: a.template.path, template: a.template.path };
    const chunks: Buffer[] = [];
    for await (const chunk of sendVolume(sendable, {})) chunks.push(chunk);

    await assert.rejects(receive(Buffer.concat(chunks), c), e => isError(e, 'SV_CHECKSUM'));

    assert.deepEqual(
      listTemplates(c).map(t => t.name),
      ['web'],
    );
  });
});

function readVersion(path: string): string {
  return path.slice(-16);
}
