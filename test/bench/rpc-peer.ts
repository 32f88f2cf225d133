/**
 * A process of its own that reads notifications and answers pings: as shiftvol does it, or as little as amqplib lets one do. Told what to
 * do over the channel to its parent.
 */
import { connect } from 'amqplib';
import { healthEndpoints } from '../../src/bus/rpc/health.ts';
import { BusService } from '../../src/bus/service.ts';
import { schema } from '../../src/config/schema.ts';
import { BARE, type Order, OURS, type Told } from './rpc-peers.ts';

const PREFETCH = 100;

const [url = '', kind] = process.argv.slice(2);
type Running = { stop(): Promise<void> };
let running: Running | undefined;

process.on('message', (order: Order) => void obey(order));
process.on('disconnect', () => process.exit(0));

async function obey(order: Order): Promise<void> {
  switch (order.do) {
    case 'consume': {
      const seconds = await (kind === 'ours' ? consumeOurs(order.count) : consumeBare(order.count));
      return tell({ done: 'consume', seconds });
    }
    case 'declare': {
      await using bus = makeBus([url]);
      while (!bus.status.listen.every(l => l.subscribed)) await tick();
      break;
    }
    case 'serve':
      running = await (kind === 'ours' ? serveOurs() : serveBare());
      break;
    case 'stop':
      await running?.stop();
      break;
    default:
      order satisfies never;
  }
  tell({ done: order.do });
}

function tell(what: Told): void {
  process.send?.(what);
}

function makeBus(listen: readonly string[]): BusService {
  const host = 'bench';
  const bus = { listen, url, prefetch: PREFETCH };
  const config = { ...schema({ host, bus, rpc: { url } }, []), host, poolDir: '/none', file: '' };
  const none = () => undefined;
  const log = { debug: none, info: none, warn: console.error, error: console.error };
  const outbox = { pending: () => [], sent: none, onAdded: () => none };
  const handle = async () => Promise.reject(new Error('none of them is for this host'));
  return new BusService({ config, handle, outbox, endpoints: healthEndpoints(OURS.topic), log }).start();
}

/** Seconds from the first message to the last. */
async function consumeOurs(count: number): Promise<number> {
  await using bus = makeBus([url]);
  const received = () => bus.status.listen[0]?.counters.received ?? 0;
  while (received() === 0) await tick();
  const started = performance.now();
  const before = received();
  while (received() < count) await tick();
  const seconds = (performance.now() - started) / 1000;
  const ignored = bus.status.listen[0]?.counters.ignored ?? {};
  const sum = Object.values<number>(ignored).reduce((a, b) => a + b, 0);
  if (sum !== count) throw new Error(`${sum} of ${count} were passed over`);
  return (seconds * count) / (count - before);
}
const tick = () => new Promise(resolve => setTimeout(resolve, 2));

async function consumeBare(count: number): Promise<number> {
  const model = await connect(amqpUrl(), { noDelay: true });
  const channel = await model.createChannel();
  await channel.prefetch(PREFETCH);
  let [started, seen, types] = [0, 0, 0];
  const { promise, resolve } = Promise.withResolvers<number>();
  await channel.consume(BARE.queue, message => {
    if (message === null) return;
    if (seen++ === 0) started = performance.now();
    const inner: unknown = JSON.parse(JSON.parse(message.content.toString('utf8'))['oslo.message']);
    if (typeof inner === 'object' && inner !== null && 'event_type' in inner) types++;
    channel.ack(message);
    if (seen === count) resolve((performance.now() - started) / 1000);
  });
  const seconds = await promise;
  if (types !== count) throw new Error(`${types} of ${count} were what was sent`);
  await model.close();
  return seconds;
}

async function serveOurs(): Promise<Running> {
  const bus = makeBus([]);
  while (!bus.status.rpc?.subscribed) await tick();
  return { stop: () => bus[Symbol.asyncDispose]() };
}

/** No more than has to be there for Python to take the reply. */
async function serveBare(): Promise<Running> {
  const model = await connect(amqpUrl(), { noDelay: true });
  const channel = await model.createChannel();
  await channel.assertExchange('shiftvol', 'topic', { durable: false });
  const { queue } = await channel.assertQueue(`${BARE.topic}.bench`, { durable: false });
  await channel.bindQueue(queue, 'shiftvol', queue);
  await channel.prefetch(PREFETCH);
  await channel.consume(queue, message => {
    if (message === null) return;
    channel.ack(message);
    const { _msg_id, _reply_q, args } = JSON.parse(JSON.parse(message.content.toString('utf8'))['oslo.message']);
    const inner = {
      result: { service: 'bare', arg: args.arg },
      failure: null,
      ending: true,
      _msg_id,
      _unique_id: _msg_id,
    };
    const body = JSON.stringify({ 'oslo.version': '2.0', 'oslo.message': JSON.stringify(inner) });
    channel.sendToQueue(_reply_q, Buffer.from(body), { contentType: 'application/json', contentEncoding: 'utf-8' });
  });
  return { stop: () => model.close() };
}

function amqpUrl(): string {
  return url.replace(/^rabbit:/, 'amqp:').replace(/\/$/, '');
}
