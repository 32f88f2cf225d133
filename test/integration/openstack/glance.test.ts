/** Images, on answers that a real Glance gave; cuts and wrong bytes are put in their way. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { explain } from '../../../src/errors.ts';
import { Glance } from '../../../src/openstack/glance.ts';
import { imageSource } from '../../../src/openstack/image-source.ts';
import { type Client, failure, soon, startClient } from './client.ts';
import { demoBody, makeImage } from './demo.ts';
import type { MakeTrouble } from './replay.ts';

const FILE = /\/file$/;
const onFile =
  (make: MakeTrouble): MakeTrouble =>
  (asked, times) =>
    asked.method === 'GET' && FILE.test(asked.path) ? make(asked, times) : undefined;

async function download(trouble: MakeTrouble) {
  const client = await startClient(['images'], onFile(trouble));
  const glance = new Glance(client.session);
  const image = await glance.image('demo-image', soon());
  const read = async () => Buffer.concat(await (await glance.download(image, soon())).toArray());
  return { client, image, read };
}

test('an image is downloaded whole', async () => {
  const { client, read, image } = await download(() => undefined);
  await using _ = client;

  assert.deepEqual(await read(), demoBody());
  assert.equal(image.digest?.algorithm, 'sha512');
  assert.equal(image.properties.get('os_distro'), 'debian');
});

test('a download that is cut goes on where it was cut', async () => {
  const { client, read } = await download((_, times) => [{ cutAfter: 1000 }, { cutAfter: 2000 }][times]);
  await using _ = client;

  assert.deepEqual(await read(), demoBody());

  const ranges = client.cloud.asked.filter(a => FILE.test(a.path)).map(a => a.headers.range);
  assert.deepEqual(ranges, [undefined, 'bytes=1000-', 'bytes=3000-']);
});

test('from a Glance without ranges it comes again, and what is there already is skipped', async () => {
  const { client, read } = await download((_, times) => (times === 0 ? { cutAfter: 1000 } : { withoutRanges: true }));
  await using _ = client;

  assert.deepEqual(await read(), demoBody());
});

test('a download that gets nowhere is given up', async () => {
  const { client, read } = await download((_, times) => (times === 0 ? { cutAfter: 1000 } : 'reset'));
  await using _ = client;

  const error = await failure(read(), 'SV_OPENSTACK');

  assert.match(explain(error), /Cannot GET .*\/file: the image service at .* does not answer/);
});

test('wrong bytes are an error at their end, with both hashes', async () => {
  const { client, read } = await download(() => ({ body: Buffer.concat([demoBody().subarray(1), Buffer.from('x')]) }));
  await using _ = client;

  const error = await failure(read(), 'SV_CHECKSUM');

  assert.match(error.message, /its sha512 is [0-9a-f]{128}, Glance says [0-9a-f]{128}/);
});

test('more bytes than there should be end it before they are handed on', async () => {
  const { client, read } = await download(() => ({ body: Buffer.concat([demoBody(), Buffer.from('x')]) }));
  await using _ = client;

  const error = await failure(read(), 'SV_CHECKSUM');

  assert.match(error.message, /more than \d+ bytes came/);
});

test('fewer bytes that look whole are an error', async () => {
  const { client, read } = await download(asked =>
    asked.headers.range === undefined ? { body: demoBody().subarray(0, 3000) } : undefined,
  );
  await using _ = client;

  assert.deepEqual(await read(), demoBody());
});

test('who stops reading ends the download', async () => {
  const { client, image } = await download(() => undefined);
  await using _ = client;
  const stop = new AbortController();
  const stream = await new Glance(client.session).download(image, stop.signal);

  stop.abort();

  await assert.rejects(stream.toArray(), { name: 'AbortError' });
});

test('an image without a hash is taken by its length, with a warning; one of an unknown hash is refused', async () => {
  const { client, image } = await download(() => undefined);
  await using _ = client;
  const glance = new Glance(client.session);

  const plain = await (await glance.download({ ...image, digest: undefined }, soon())).toArray();
  assert.deepEqual(Buffer.concat(plain), demoBody());
  assert.ok(client.lines.some(line => line.includes('has no hash in Glance')));

  const odd = { ...image, digest: { algorithm: 'crc', hex: '00' } };
  await failure(glance.download(odd, soon()), 'SV_IMAGE_REFUSED');
  await failure(glance.download({ ...image, status: 'queued' }, soon()), 'SV_IMAGE_REFUSED');
});

test('what Glance says goes: formats that are not accepted are refused, whatever the bytes are', async () => {
  const { client, image } = await download(() => undefined);
  await using _ = client;
  const glance = new Glance(client.session);

  assert.equal(imageSource(glance, image).format, 'raw');
  assert.equal(imageSource(glance, { ...image, diskFormat: 'root-tar' }).format, 'tar');
  assert.equal(imageSource(glance, image, 'tar').format, 'tar');
  assert.throws(() => imageSource(glance, { ...image, diskFormat: 'vmdk' }), { code: 'SV_IMAGE_REFUSED' });
  assert.throws(() => imageSource(glance, { ...image, containerFormat: 'ovf' }), { code: 'SV_IMAGE_REFUSED' });
  assert.throws(() => imageSource(glance, image, 'qcow2'), { code: 'SV_USAGE' });
});

test('several images of one name are told by their ids', async () => {
  await using client = await startClient(['images'], asked => {
    if (!asked.path.includes('/images?')) return undefined;
    const image = { id: '11111111-2222-4333-8444-555555555555', status: 'active' };
    const other = { ...image, id: '22222222-2222-4333-8444-555555555555' };
    return { status: 200, body: JSON.stringify({ images: [image, other] }) };
  });

  const error = await failure(new Glance(client.session).image('demo-image', soon()), 'SV_USAGE');

  assert.match(explain(error), /11111111-.*, 22222222-.*give the id/);
});

const demo = { os_distro: 'debian', name: 'demo-image', disk_format: 'raw', container_format: 'bare' };
const bodyOf = (...parts: readonly Buffer[]) => Readable.from(parts, { objectMode: false });
const upload = async ({ session }: Client, body: Readable) =>
  await new Glance(session).uploadInto(await makeImage(session, demo, soon()), body, soon());

test('an upload is checked against what arrived', async () => {
  await using client = await startClient(['images']);

  const image = await upload(client, bodyOf(demoBody()));

  assert.equal(image.status, 'active');
  const sent = client.cloud.asked.find(a => a.method === 'PUT');
  assert.deepEqual(sent?.body, demoBody());
});

test('an upload that arrives as something else is told', async () => {
  await using client = await startClient(['images']);

  await failure(upload(client, bodyOf(Buffer.from('other'))), 'SV_CHECKSUM');
});

test('the error of an upload whose source fails is the source’s', async () => {
  await using client = await startClient(['images']);
  const broken = Readable.from(
    (async function* () {
      yield Buffer.from('some');
      throw new Error('the disk is gone');
    })(),
    { objectMode: false },
  );

  await assert.rejects(upload(client, broken), /the disk is gone/);
});

test('an upload that Glance refuses is told with its words', async () => {
  await using client = await startClient(['images'], asked =>
    asked.method === 'PUT' ? { status: 413, body: '{"message": "quota"}' } : undefined,
  );

  await failure(upload(client, bodyOf(demoBody())), 'SV_OPENSTACK_REFUSED');
});
