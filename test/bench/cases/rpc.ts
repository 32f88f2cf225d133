/**
 * What one agent takes off the bus: notifications that are not for it, and calls. Beside a consumer and a server that do nothing but what
 * amqplib has to, and a server in Python.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type ChannelModel, type ConfirmChannel, connect } from 'amqplib';
import { rpcClient, rpcServer } from '../../rig/oslo/rpc.ts';
import { startRabbit } from '../../rig/rabbit.ts';
import type { Bench } from '../bench.ts';
import { type Row, ratioRow, valueRow } from '../report.ts';
import { BARE, OURS, Peer } from '../rpc-peers.ts';
import { median, pairedRatio, round } from '../statistics.ts';

const NOTIFICATIONS_AT_LEAST = 10_000;
const PINGS_AT_LEAST = 5000;
const CONNECTIONS = 4;
const CALLS_EACH = 16;
const FLOW = new URL('../../fixtures/notifications/flows/boot-attach-detach.jsonl', import.meta.url);
const JSON_PROPERTIES = { contentType: 'application/json', contentEncoding: 'utf-8', persistent: true };

export async function rpcCase(bench: Bench): Promise<readonly Row[]> {
  await using rabbit = await startRabbit();
  const { url } = rabbit;
  await using broker = await connectTo(url);
  const { channel } = broker;
  await channel.assertExchange('nova', 'topic', { durable: false });
  await channel.assertQueue(BARE.queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  await using ours = new Peer(url, 'ours');
  await using bare = new Peer(url, 'bare');
  return [
    await notifications(bench, channel, ours, bare),
    ...(await pings(bench, url, ours, bare)),
    ...(await roundTrips(bench, url, ours, bare)),
  ];
}

/** The queue is filled first, so that nobody measures the publisher. In turns; the first of each warms up. */
async function notifications({ options, workspace }: Bench, channel: ConfirmChannel, ours: Peer, bare: Peer) {
  const count = options.quick ? 10_000 : 30_000;
  const rounds = options.quick ? 2 : 5;
  const bodies = flow();
  await ours.obey({ do: 'declare' });
  const rates = { ours: [] as number[], bare: [] as number[] };
  for (let n = 0; n <= rounds; n++) {
    workspace.signal.throwIfAborted();
    await fill(channel, OURS.queue, bodies, count);
    const mine = await ours.obey({ do: 'consume', count });
    await fill(channel, BARE.queue, bodies, count);
    const theirs = await bare.obey({ do: 'consume', count });
    if (n === 0) continue;
    rates.ours.push(count / (mine.seconds ?? Number.NaN));
    rates.bare.push(count / (theirs.seconds ?? Number.NaN));
  }
  return rateRow('notifications passed over', rates.ours, NOTIFICATIONS_AT_LEAST, 'bare consumer', rates.bare);
}

async function pings({ options, workspace }: Bench, url: string, ours: Peer, bare: Peer) {
  const seconds = options.quick ? 2 : 5;
  const rounds = options.quick ? 2 : 5;
  const rates = { ours: [] as number[], bare: [] as number[] };
  await ours.obey({ do: 'serve' });
  await bare.obey({ do: 'serve' });
  await using client = await PingClients.open(url);
  for (let n = 0; n <= rounds; n++) {
    workspace.signal.throwIfAborted();
    const mine = await client.rate(OURS.topic, seconds);
    const theirs = await client.rate(BARE.topic, seconds);
    if (n === 0) continue;
    rates.ours.push(mine);
    rates.bare.push(theirs);
  }
  await ours.obey({ do: 'stop' });
  await bare.obey({ do: 'stop' });
  const name = `RPC pings, ${CONNECTIONS * CALLS_EACH} at once`;
  return [rateRow(name, rates.ours, PINGS_AT_LEAST, 'bare server', rates.bare)];
}

async function roundTrips({ options, workspace }: Bench, url: string, ours: Peer, bare: Peer) {
  const calls = options.quick ? 100 : 300;
  const rounds = options.quick ? 3 : 7;
  await ours.obey({ do: 'serve' });
  await bare.obey({ do: 'serve' });
  await using _python = await rpcServer(url, 'python');
  await using client = await rpcClient(url);
  const times: Record<'shiftvol' | 'bare' | 'python', number[]> = { shiftvol: [], bare: [], python: [] };
  const server = { shiftvol: 'bench', bare: 'bench', python: 'peer' } as const;
  const ask = (topic: keyof typeof times) =>
    client.ask({
      ...{ topic, server: server[topic], namespace: 'baseapi', method: 'ping', args: { arg: 1 }, repeat: calls },
    });
  for (let n = 0; n <= rounds; n++) {
    workspace.signal.throwIfAborted();
    for (const topic of ['shiftvol', 'python', 'bare'] as const) {
      const { ms, error, text } = await ask(topic);
      if (!ms) throw new Error(`${topic}: ${error} ${text}`);
      if (n > 0) times[topic].push(...ms);
    }
  }
  await ours.obey({ do: 'stop' });
  await bare.obey({ do: 'stop' });
  const where = { case: 'RPC ping from Python' };
  return [
    ratioRow(where, { ours: times.shiftvol, peer: times.python, peerName: 'Python server' }, 1),
    ratioRow(where, { ours: times.shiftvol, peer: times.bare, peerName: 'bare server' }),
  ];
}

function rateRow(name: string, ours: readonly number[], goal: number, peer: string, theirs: readonly number[]): Row {
  const rate = median(ours);
  const row = valueRow({ case: name }, rate, '/s', { text: `>= ${goal}/s`, met: rate >= goal }, ours.length);
  return { ...row, peer: `${peer} ${round(median(theirs))}/s`, ratio: round(pairedRatio(ours, theirs)) };
}

/** What Nova and Cinder sent when a server of another host was booted and got a volume, in Python's own writing. */
function flow(): readonly Buffer[] {
  const lines = readFileSync(FLOW, 'utf8').trimEnd().split('\n');
  return lines.map(line => {
    const inner = line.slice(line.indexOf('"message": ') + '"message": '.length, -1);
    return Buffer.from(`{"oslo.version": "2.0", "oslo.message": ${JSON.stringify(inner)}}`);
  });
}

async function fill(channel: ConfirmChannel, queue: string, bodies: readonly Buffer[], count: number): Promise<void> {
  await channel.purgeQueue(queue); // a quorum queue may give the last ones again, whose consumer left right after it acknowledged them
  for (let n = 0; n < count; n++) {
    channel.sendToQueue(queue, bodies[n % bodies.length] ?? Buffer.alloc(0), JSON_PROPERTIES);
    if (n % 1000 === 999) await channel.waitForConfirms();
  }
  await channel.waitForConfirms();
}

type Client = { readonly model: ChannelModel; readonly channel: ConfirmChannel; readonly queue: string };

/** Connections that ping as Python's client does, each with a reply queue, so many calls at a time on each. */
class PingClients implements AsyncDisposable {
  readonly #clients: readonly Client[];
  readonly #waiting = new Map<string, () => void>();

  private constructor(clients: readonly Client[]) {
    this.#clients = clients;
  }

  static async open(url: string): Promise<PingClients> {
    const open = async () => {
      const { model, channel } = await connectTo(url);
      const queue = `reply_${randomUUID().replaceAll('-', '')}`;
      await channel.assertQueue(queue, { durable: false, arguments: { 'x-expires': 1_800_000 } });
      return { model, channel, queue };
    };
    const clients = new PingClients(await Promise.all(Array.from({ length: CONNECTIONS }, open)));
    for (const { channel, queue } of clients.#clients)
      await channel.consume(queue, message => message && clients.#take(message.content), { noAck: true });
    return clients;
  }

  /** Calls that are answered in a second. */
  async rate(topic: string, seconds: number): Promise<number> {
    const started = performance.now();
    const until = started + seconds * 1000;
    let answered = 0;
    await Promise.all(
      this.#clients.flatMap(client =>
        Array.from({ length: CALLS_EACH }, async () => {
          while (performance.now() < until) {
            await this.#ping(client, topic);
            answered++;
          }
        }),
      ),
    );
    return answered / ((performance.now() - started) / 1000);
  }

  #ping({ channel, queue }: Client, topic: string): Promise<void> {
    const id = randomUUID().replaceAll('-', '');
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.set(id, resolve);
    const call = { method: 'ping', args: { arg: 1 }, namespace: 'baseapi', version: '1.0' };
    const inner = { ...call, _msg_id: id, _reply_q: queue, _timeout: null, _unique_id: id };
    const body = JSON.stringify({ 'oslo.version': '2.0', 'oslo.message': JSON.stringify(inner) });
    channel.publish('shiftvol', `${topic}.bench`, Buffer.from(body), { ...JSON_PROPERTIES, expiration: '60000' });
    return promise;
  }

  #take(content: Buffer): void {
    const { _msg_id: id } = JSON.parse(JSON.parse(content.toString('utf8'))['oslo.message']);
    this.#waiting.get(id)?.();
    this.#waiting.delete(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { model } of this.#clients) await model.close();
  }
}

async function connectTo(url: string) {
  const model = await connect(url.replace(/^rabbit:/, 'amqp:').replace(/\/$/, ''), { noDelay: true });
  const channel = await model.createConfirmChannel();
  return { model, channel, [Symbol.asyncDispose]: () => model.close() };
}
