/** Two passes between two pools over a real socket: what goes ahead, what follows, and what is left where one of them does not come to its end. */
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
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Attachment } from '../../../src/engine/model.ts';
import type { BorrowedImage } from '../../../src/engine/snapshots.ts';
import { isError } from '../../../src/errors.ts';
import { Arriving } from '../../../src/migrate/arriving.ts';
import { Departures } from '../../../src/migrate/departures.ts';
import { fetchVolume, type Told } from '../../../src/migrate/fetch.ts';
import { FirstPasses } from '../../../src/migrate/first-passes.ts';
import { Incoming } from '../../../src/migrate/incoming.ts';
import { lendFrom } from '../../../src/migrate/lend.ts';
import { listenForFetches } from '../../../src/migrate/listener.ts';
import { Offers } from '../../../src/migrate/offers.ts';
import { layout } from '../../../src/storage/layout.ts';
import { ID, makeSite, type Site } from './support.ts';

const MIB = 2 ** 20;
const never = new AbortController().signal;
const quiet = { info: () => {}, warn: () => {} };
let a: Site;
let b: Site;
let image: string;
let stateDir: string;
/** Copies that are kept at the source. */
const kept = new Set<string>();

before(async () => {
  [a, b] = await Promise.all([makeSite('xfs'), makeSite('xfs', 'xfs')]);
  image = a.snapshot('root');
  write(20 * MIB, 24 * MIB);
  stateDir = mkdtempSync(join(tmpdir(), 'shiftvol-passes-'));
});
after(() => {
  a?.[Symbol.dispose]();
  b?.[Symbol.dispose]();
  rmSync(stateDir, { recursive: true, force: true });
});

function write(at: number, bytes: number): void {
  const fd = openSync(image, 'r+');
  writeSync(fd, randomBytes(bytes), 0, bytes, at);
  closeSync(fd);
}

/** As the engine takes them, of an image that nobody has mounted. */
let copies = 0;
async function borrow(): Promise<BorrowedImage> {
  const path = a.snapshot(`copy-${++copies}`, image);
  kept.add(path);
  const ref = { ref: 'c1' };
  const plan = {
    id: ID,
    role: 'root',
    target: '/',
    readOnly: false,
    ref,
    source: { kind: 'template', template: 'web' },
  };
  return {
    path,
    sizeBytes: statSync(path).size,
    frozenMs: 0,
    attachment: { plan } as Attachment, // nothing else of it is looked at
    [Symbol.asyncDispose]: async () => {
      rmSync(path);
      kept.delete(path);
    },
  };
}

type Sent = { readonly pass: string; readonly changed_bytes: number };

async function source(patienceMs = 1000) {
  const scope = new AsyncDisposableStack();
  const passes = scope.use(new FirstPasses(borrow, patienceMs));
  const offers = new Offers(stateDir);
  const sent: Sent[] = [];
  const listener = scope.use(
    await listenForFetches({
      address: '127.0.0.1:0',
      tls: undefined,
      offers,
      lend: lendFrom({ pool: a, engine: { snapshots: { borrow } as never }, passes }),
      told: ({ attachment }, what) => passes.tell(attachment, what === 'arrived'),
      log: { ...quiet, info: (_, facts) => void (facts && sent.push(facts as Sent)) },
    }),
  );
  const tell = (pass?: 'first'): Told => {
    const { id: offer, token } = offers.make(ID, pass);
    const address = `127.0.0.1:${listener.port}`;
    const { size: sizeBytes } = statSync(image);
    return { v: 1, address, tls: false, offer, token, attachment: ID, sizeBytes, ...(pass && { pass }) };
  };
  return { passes, offers, sent, tell, [Symbol.asyncDispose]: () => scope.disposeAsync() };
}

const arriving = () => new Arriving({ pool: b, ca: undefined, log: quiet });
const incoming = () => {
  const directory = layout(b.poolDir).incomingDir(ID);
  return existsSync(directory) ? readdirSync(directory) : [];
};

/** The last pass, and the digest of what it made. */
async function last(told: Told): Promise<string> {
  using opened = Incoming.open(b, ID);
  const received = await fetchVolume(b, opened, told, { signal: never, onRetry: () => {} });
  const sum = digest(opened.path(received.image));
  opened.remove();
  return sum;
}
const digest = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

test('most goes ahead, the rest follows, and together they are the root as it is now', async () => {
  await using on = await source();
  await on.passes.begin(ID, never);
  const there = on.passes.arrived(ID, never);

  await arriving().fetch(on.tell('first'), never);

  assert.equal(await there, true);
  write(30 * MIB, MIB);
  assert.equal(await last(on.tell()), digest(image));
  const [first, second] = on.sent;
  assert.deepEqual([first?.pass, second?.pass], ['first', 'last']);
  assert.ok((first?.changed_bytes ?? 0) >= 24 * MIB && second?.changed_bytes === MIB, JSON.stringify(on.sent));
  await on.passes.end(ID);
  assert.deepEqual([...kept], []);
});

test('where the copy is gone, as after a death of the source, the last pass brings all of it', async () => {
  await using on = await source();
  await on.passes.begin(ID, never);
  await arriving().fetch(on.tell('first'), never);
  await on.passes.end(ID);

  assert.equal(await last(on.tell()), digest(image));

  assert.ok((on.sent.at(-1)?.changed_bytes ?? 0) >= 24 * MIB);
});

test('a destination that does not come, or that gives up, is not waited for', async () => {
  await using on = await source(50);
  await on.passes.begin(ID, never);
  assert.equal(await on.passes.arrived(ID, never), false);

  await on.passes.begin(ID, never);
  const stop = AbortSignal.abort();
  await arriving().fetch(on.tell('first'), stop);
  assert.equal(await on.passes.arrived(ID, never), false);

  await on.passes.begin(ID, never);
  const there = on.passes.arrived(ID, never);
  await arriving().fetch({ ...on.tell('first'), sizeBytes: 4096 }, never); // another one than was offered
  assert.equal(await there, false);
});

test('a move that is given up leaves nothing at the destination, and what has not come whole has no name', async () => {
  await using on = await source();
  const dest = arriving();
  await on.passes.begin(ID, never);
  await dest.fetch(on.tell('first'), never);
  assert.ok(incoming().includes('state.json'));

  await dest.forget(ID);
  assert.deepEqual(incoming(), []);
  await dest.forget(ID);

  const cut = new AbortController();
  const fetching = dest.fetch(on.tell('first'), cut.signal);
  while (!incoming().some(name => name.startsWith('work'))) await new Promise(setImmediate);
  cut.abort();
  await fetching;
  assert.ok(!incoming().includes('state.json'), `${incoming()}`);
  await dest.forget(ID);
  assert.deepEqual(incoming(), []);
});

test('a first pass is no root: what fetches the last one does not take it', async () => {
  await using on = await source();
  await on.passes.begin(ID, never);
  const { pass: _, ...asLast } = on.tell('first');
  using opened = Incoming.open(b, ID);

  const taken = fetchVolume(b, opened, asLast, {
    signal: never,
    onRetry: error => {
      throw error;
    },
  });

  await assert.rejects(taken, e => isError(e, 'SV_MESSAGE'));
  opened.remove();
});

test('offers of first passes end with the process that made them', async () => {
  const offers = new Offers(stateDir);
  const { id, token } = offers.make(ID, 'first');
  assert.equal(offers.find(id, token)?.pass, 'first');

  new Offers(stateDir).clean();

  assert.equal(offers.find(id, token), undefined);
});

test('since when an instance is down is told once, and only in the right shape', async () => {
  const told: unknown[] = [];
  const source1 = new Departures({ tell: async (host, method, args) => void told.push([host, method, args]) }, quiet);
  const departure = { instance: 'i1', source: 'node1', downSince: 1_700_000_000_000 };
  await source1.tell('node2', departure);
  assert.deepEqual(told, [['node2', 'instance_leaves', departure]]);

  const dest = new Departures({ tell: async () => {} }, quiet);
  dest.hear(departure);
  for (const wrong of [undefined, {}, { ...departure, downSince: -1 }, { ...departure, more: 1 }])
    assert.throws(() => dest.hear(wrong), { code: 'SV_MESSAGE' });
  assert.deepEqual(dest.take({ ref: 'i1' }), departure);
  assert.equal(dest.take({ ref: 'i1' }), undefined);
});
