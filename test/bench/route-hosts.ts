/**
 * Light hosts for the bench of the router: real queues with an agent's own arguments and bindings, and consumers that count. Arguments:
 * URL, first host, number of hosts. Says `ready`, then, for each line it reads, what it has got since the start.
 */
import { createInterface } from 'node:readline';
import { connect } from 'amqplib';
import { hostPattern } from '../../src/bus/route.ts';
import { ownQueue, queueNames } from '../../src/bus/topology.ts';
import { schema } from '../../src/config/schema.ts';

export type HostsReport = {
  readonly received: number;
  /** Messages that a host got before, by their id. */
  readonly twice: number;
  /** Of the host that got most. */
  readonly most: number;
  /** Messages that were for another host. */
  readonly foreign: number;
  /** From publish to here, of messages that carry their time, in milliseconds; emptied with each report. */
  readonly ways: readonly number[];
};

const [url = '', from = '0', count = '0'] = process.argv.slice(2);
const { bus } = schema({}, []);
const connection = await connect(url.replace(/^rabbit:/, 'amqp:'), { noDelay: true });
const channel = await connection.createChannel();
await channel.assertExchange(bus.deadLetter.exchange, 'topic', { durable: true });
await channel.assertExchange(bus.route.exchange, 'topic', { durable: true });
await channel.prefetch(bus.prefetch);

const seen = new Set<string>();
let [received, twice, most, foreign] = [0, 0, 0, 0];
let ways: number[] = [];
for (let i = 0; i < Number(count); i++) {
  const host = hostName(Number(from) + i);
  const { own } = queueNames(bus.queue, host);
  await channel.assertQueue(own, ownQueue(bus));
  await channel.bindQueue(own, bus.route.exchange, hostPattern(host));
  let mine = 0;
  await channel.consume(own, message => {
    if (message === null) throw new Error(`${own} was taken away`);
    const text = message.content.toString();
    const [, id = '', at = ''] = /shiftvol-bench-(\d+)-(\d+\.?\d*)-/.exec(text) ?? [];
    received++;
    most = Math.max(most, ++mine);
    if (!text.includes(`nova-compute:${host}\\"`)) foreign++;
    if (seen.has(id)) twice++;
    else if (at !== '0') ways.push(performance.timeOrigin + performance.now() - Number(at));
    seen.add(id);
    channel.ack(message);
  });
}
process.stdout.write('ready\n');
for await (const _ of createInterface({ input: process.stdin })) {
  const report: HostsReport = { received, twice, most, foreign, ways };
  ways = [];
  process.stdout.write(`${JSON.stringify(report)}\n`);
}
await connection.close();

function hostName(n: number): string {
  return `compute-${String(n).padStart(4, '0')}.example.org`;
}
