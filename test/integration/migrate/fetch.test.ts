/** Fetching between two pools over real sockets: tokens, TLS, lines that break. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { explain, isError } from '../../../src/errors.ts';
import { headerOf } from '../../../src/migrate/facts.ts';
import { endOffer, fetchVolume, parseTold, type Told } from '../../../src/migrate/fetch.ts';
import { Incoming } from '../../../src/migrate/incoming.ts';
import { type Lend, type ListenOptions, listenForFetches } from '../../../src/migrate/listener.ts';
import { Offers } from '../../../src/migrate/offers.ts';
import { type Certificates, makeCertificates } from '../../rig/certificates.ts';
import { ID, makeSite, type Site } from './support.ts';

const MIB = 2 ** 20;
const never = new AbortController().signal;
const quiet = { info: () => {}, warn: () => {} };
let a: Site;
let b: Site;
let image: string;
let stateDir: string;
let certificates: Certificates;
/** How often a template was asked for along with the volume. */
let withTemplate: boolean[];

before(async () => {
  [a, b, certificates] = await Promise.all([makeSite('xfs'), makeSite('xfs', 'xfs'), makeCertificates()]);
  image = a.snapshot('root');
  const fd = openSync(image, 'r+');
  writeSync(fd, randomBytes(40 * MIB), 0, 40 * MIB, 20 * MIB);
  closeSync(fd);
  stateDir = mkdtempSync(join(tmpdir(), 'shiftvol-offers-'));
});
after(async () => {
  a?.[Symbol.dispose]();
  b?.[Symbol.dispose]();
  await certificates?.[Symbol.asyncDispose]();
  rmSync(stateDir, { recursive: true, force: true });
});

const lend: Lend = async (_offer, { templates }) => {
  const has = templates.has(a.template.sha256);
  withTemplate.push(!has);
  const moving = { id: ID, role: 'root', target: '/', readOnly: false, instance: { ref: 'c1' } } as const;
  const header = headerOf(moving, a.template, image, { withTemplate: !has, last: true });
  const sendable = { header, image, before: a.template.path, ...(!has && { template: a.template.path }) };
  return { sendable, async [Symbol.asyncDispose]() {} };
};

async function listen(more: Partial<ListenOptions> = {}) {
  withTemplate = [];
  const offers = new Offers(stateDir);
  const listener = await listenForFetches({
    address: '127.0.0.1:0',
    tls: undefined,
    offers,
    lend,
    log: quiet,
    ...more,
  });
  const { id: offer, token } = offers.make(ID);
  const told: Told = {
    v: 1,
    address: `127.0.0.1:${listener.port}`,
    tls: more.tls !== undefined,
    offer,
    token,
    attachment: ID,
    sizeBytes: statSync(image).size,
  };
  return { listener, told, offers, [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose]() };
}

async function fetch(told: Told, { ca, onRetry = () => {} }: { ca?: string; onRetry?: (error: unknown) => void } = {}) {
  using incoming = Incoming.open(b, told.attachment);
  const received = await fetchVolume(b, incoming, told, { signal: never, onRetry, ...(ca !== undefined && { ca }) });
  const got = createHash('sha256')
    .update(readFileSync(incoming.path(received.image)))
    .digest('hex');
  incoming.remove();
  return got;
}
const sum = () => createHash('sha256').update(readFileSync(image)).digest('hex');

/** A line that breaks after so many bytes from the other side, the first `times`. */
async function breaking(port: number, afterBytes: number, times: number) {
  let breaks = times;
  const server = createServer(socket => {
    const up = connect(port, '127.0.0.1');
    let passed = 0;
    up.on('data', chunk => {
      passed += chunk.length;
      socket.write(chunk);
      if (breaks > 0 && passed > afterBytes) {
        breaks--;
        socket.destroy();
        up.destroy();
      }
    });
    socket.pipe(up);
    // What came before the end has to get there first: a close would throw away what the reader has not taken yet.
    up.on('end', () => socket.end()).on('error', () => socket.destroy());
    socket.on('error', () => {}).on('close', () => up.destroy());
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () => new Promise<void>(done => server.close(() => done())),
  };
}

describe('a root', () => {
  test('is fetched with its template, and the next one without', async () => {
    await using first = await listen();
    assert.equal(await fetch(first.told), sum());
    assert.deepEqual(withTemplate, [true]);
    await using second = await listen();
    assert.equal(await fetch(second.told), sum());
    assert.deepEqual(withTemplate, [false]);
  });

  test('over TLS, from a host that is trusted, and from nobody else', async () => {
    const tls = { cert: certificates.cert, key: certificates.key };
    await using on = await listen({ tls });
    const told = { ...on.told, address: on.told.address.replace('127.0.0.1', 'localhost') };
    assert.equal(await fetch(told, { ca: certificates.ca }), sum());
    using incoming = Incoming.open(b, ID);
    const signal = AbortSignal.timeout(5000);
    const untrusting = fetchVolume(b, incoming, told, {
      signal,
      onRetry: error => {
        throw error;
      },
    });
    await assert.rejects(untrusting, e => isError(e, 'SV_CONNECTION') && !explain(e).includes(told.token));
    incoming.remove();
  });

  test('over a line that breaks again and again it arrives', async () => {
    await using on = await listen();
    await using line = await breaking(on.listener.port, 10 * MIB, 3);
    const retries: unknown[] = [];

    const got = await fetch(
      { ...on.told, address: `127.0.0.1:${line.port}` },
      { onRetry: error => retries.push(error) },
    );

    assert.equal(got, sum());
    assert.equal(retries.length, 3, retries.map(explain).join('\n'));
  });

  test('from an agent that is restarted in the middle arrives: the offer is still there', async () => {
    const first = await listen();
    const { told } = first;
    const port = Number(told.address.split(':')[1]);
    let again: Awaited<ReturnType<typeof listenForFetches>> | undefined;
    await using line = await breaking(port, 10 * MIB, 1);
    const restart = async () => {
      await first[Symbol.asyncDispose]();
      again = await listenForFetches({
        address: `127.0.0.1:${port}`,
        tls: undefined,
        offers: new Offers(stateDir),
        lend,
        log: quiet,
      });
    };
    let restarting: Promise<void> | undefined;

    const got = await fetch(
      { ...told, address: `127.0.0.1:${line.port}` },
      { onRetry: () => (restarting ??= restart()) },
    );

    await restarting;
    await again?.[Symbol.asyncDispose]();
    assert.equal(got, sum());
  });
});

describe('a token', () => {
  const refuses = async (told: Told) => {
    using incoming = Incoming.open(b, ID);
    await assert.rejects(
      fetchVolume(b, incoming, told, { signal: never, onRetry: () => {} }),
      e => isError(e, 'SV_SNAPSHOT_NOT_FOUND') && !explain(e).includes(told.token),
    );
    incoming.remove();
  };

  test('that is wrong, of another offer, or used up gets nothing', async () => {
    await using on = await listen();
    await refuses({ ...on.told, token: 'x'.repeat(43) });
    await refuses({ ...on.told, offer: '0'.repeat(16) });
    const { told: newer, ...rest } = await listen();
    await refuses({ ...newer, token: on.told.token });
    await rest[Symbol.asyncDispose]();
    await endOffer({ ...newer, address: on.told.address }, { signal: never });
    await refuses({ ...newer, address: on.told.address });
    assert.deepEqual(readdirSync(join(stateDir, 'offers')), []);
  });

  test('is not in the file of its offer', async () => {
    await using on = await listen();
    const file = join(stateDir, 'offers', `${on.told.offer}.json`);
    assert.ok(existsSync(file) && !readFileSync(file, 'utf8').includes(on.told.token));
    assert.equal(statSync(file).mode & 0o777, 0o600);
  });

  test('that came too late gets nothing, and its offer is cleaned away', async () => {
    await using on = await listen();
    const real = Date.now;
    try {
      Date.now = () => real() + 25 * 3_600_000;
      assert.equal(on.offers.find(on.told.offer, on.told.token), undefined);
      on.offers.clean();
    } finally {
      Date.now = real;
    }
    assert.equal(on.offers.find(on.told.offer, on.told.token), undefined);
  });
});

test('what the other host tells is refused where it has another shape, and nothing of it is told', () => {
  for (const text of ['', '{}', '[]', '{"v":1,"token":"secret"}', 'secret'])
    assert.throws(
      () => parseTold(text),
      e => isError(e, 'SV_MESSAGE') && !explain(e).includes('secret'),
    );
});

test('a host that sends another volume than it offered, or a larger one, is not listened to', async () => {
  for (const change of [{ attachment: 'f'.repeat(16) }, { sizeBytes: 4096 }]) {
    await using on = await listen();
    const told = { ...on.told, ...change };
    using incoming = Incoming.open(b, told.attachment);
    const once = fetchVolume(b, incoming, told, {
      signal: never,
      onRetry: error => {
        throw error;
      },
    });
    await assert.rejects(once, e => isError(e, 'SV_MESSAGE'));
    incoming.remove();
  }
});
