/** What the agent takes while it waits, and with 500 attachments. */
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'amqplib';
import { startRabbit } from '../../rig/rabbit.ts';
import { Agent } from '../agent.ts';
import type { Bench } from '../bench.ts';
import { writeConfig } from '../host.ts';
import { type Row, valueRow } from '../report.ts';

const MIB_AT_MOST = 80;
const MIB_MORE_AT_MOST = 20;
const CPU_PERCENT_AT_MOST = 0.2;
const ATTACHMENTS = 500;
const FILES = 1000;

export async function idleCase(bench: Bench): Promise<readonly Row[]> {
  const { workspace, pool, options } = bench;
  const lxd = await bench.lxd();
  await using rabbit = await startRabbit();
  await declareServices(rabbit.url);
  // Small ranges: the runtime takes ids from root's entry in /etc/subuid alone, which has room for 152 of the usual size.
  const more = { bus: { listen: [rabbit.url], url: rabbit.url }, id_range_size: 8192 };
  const at = writeConfig(workspace, pool, 'idle', { lxdSocket: lxd.socketPath, more });
  const template = await pool.template(FILES, 'ext4');
  await using agent = await Agent.start(workspace, at, { bus: true });

  const seconds = options.quick ? 10 : 30;
  await sleep(12_000, undefined, { signal: workspace.signal }); // what it does once, after its start
  const [before, cpuBefore] = [agent.residentMiB, agent.cpuSeconds];
  await sleep(seconds * 1000, undefined, { signal: workspace.signal });
  const percent = ((agent.cpuSeconds - cpuBefore) / seconds) * 100;

  // What a first spawn loads is no cost of an attachment: it stays when all are gone.
  const count = options.quick ? ATTACHMENTS / 10 : ATTACHMENTS;
  const instances = Array.from({ length: count }, (_, i) => ({ ref: `idle-${i}` }));
  const spawned: (typeof instances)[number][] = [];
  try {
    await inBatches(instances, 8, async instance => {
      workspace.signal.throwIfAborted();
      await agent.execute({ action: 'spawn', instance, template: template.name });
      spawned.push(instance);
    });
    await sleep(5000, undefined, { signal: workspace.signal });
    const after = agent.residentMiB;
    return [
      memoryRow('agent idle: memory', before, `<= ${MIB_AT_MOST} MiB`, before <= MIB_AT_MOST),
      valueRow({ case: `agent idle: CPU in ${seconds} s` }, percent, '%', {
        text: `<= ${CPU_PERCENT_AT_MOST} %`,
        met: percent <= CPU_PERCENT_AT_MOST,
      }),
      memoryRow(
        `agent with ${count} attachments`,
        after - before,
        `<= +${MIB_MORE_AT_MOST} MiB`,
        after - before <= MIB_MORE_AT_MOST,
      ),
    ];
  } finally {
    await inBatches(spawned, 8, instance => agent.execute({ action: 'destroy', instance, lazy: false }));
  }
}

/** A cloud's broker has the services' exchanges; the agent looks for one that is absent every two seconds (0.2 % of a CPU for all three). */
async function declareServices(url: string): Promise<void> {
  const connection = await connect(url.replace(/^rabbit:/, 'amqp:'));
  const channel = await connection.createChannel();
  for (const exchange of ['nova', 'openstack', 'cinder'])
    await channel.assertExchange(exchange, 'topic', { durable: false });
  await connection.close();
}

function memoryRow(name: string, mib: number, text: string, met: boolean): Row {
  return valueRow({ case: name }, mib, 'MiB', { text, met });
}

/** `width` at a time. */
export async function inBatches<T>(all: readonly T[], width: number, work: (one: T) => Promise<void>): Promise<void> {
  const left = all.values();
  const lane = async () => {
    for (const one of left) await work(one);
  };
  // All lanes end before the first failure is told: what runs on would meet what is taken away.
  const ends = await Promise.allSettled(Array.from({ length: width }, lane));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}
