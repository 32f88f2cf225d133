/**
 * A thousand hosts behind two routers on one real broker: how many notifications a second go through, how long one is on its way, what
 * a host reads (its own alone), and what a router that is killed in the middle costs (nothing is lost).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type ChannelModel, type ConfirmChannel, connect } from 'amqplib';
import { startRabbit } from '../../rig/rabbit.ts';
import type { Bench } from '../bench.ts';
import { type Row, sumRow, valueRow } from '../report.ts';
import type { HostsReport } from '../route-hosts.ts';

const PROCESSES = 2;
/** Published before the first is confirmed. */
const BATCH = 1000;
const PACE_PER_SECOND = 200;
const TIMEOUT_MS = 120_000;
const PROGRAM = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const HOSTS = fileURLToPath(new URL('../route-hosts.ts', import.meta.url));
const SAMPLES = new URL('../../fixtures/notifications/nova/', import.meta.url);

export async function routeCase({ workspace, options }: Bench): Promise<readonly Row[]> {
  const { signal } = workspace;
  const hosts = options.quick ? 100 : 1000;
  const all = options.quick ? 10_000 : 100_000;
  await using rabbit = await startRabbit();
  const url = rabbit.url.replace(/^rabbit:/, 'amqp:');
  const connection = await connect(url, { noDelay: true });
  await using _connection = { [Symbol.asyncDispose]: () => connection.close() };
  const nova = await connection.createConfirmChannel();
  await nova.assertExchange('nova', 'topic', { durable: false });
  await using crowd = new Children();
  const listeners = await Promise.all(
    Array.from({ length: PROCESSES }, (_, i) => crowd.hosts(rabbit.url, (i * hosts) / PROCESSES, hosts / PROCESSES)),
  );
  workspace.log(`route: ${hosts} hosts listen; the broker has ${brokerMiB(rabbit.pid)} MiB`);
  const config = join(workspace.dir, 'route.json');
  writeFileSync(config, JSON.stringify({ host: 'router', bus: { listen: [rabbit.url], rebind_ms: 200 } }));
  const routers = [crowd.router(config), crowd.router(config)];
  await until(async () => (await consumers(connection, 'shiftvol.router')) === routers.length, signal);

  const reports = async () => sum(await Promise.all(listeners.map(l => l.report())));
  const started = performance.now();
  // Two of five messages are noise, as where instance.update is told.
  const mine = await publish(nova, { from: 0, count: all, hosts, noise: true }, async done => {
    if (done !== all / 2) return;
    routers[0]?.kill('SIGKILL');
    routers.push(crowd.router(config));
  });
  const published = performance.now() - started;
  await until(async () => (await reports()).received >= mine, signal);
  const seconds = (performance.now() - started) / 1000;
  await sleep(1000, undefined, { signal }); // what comes twice comes now
  const flood = await reports();
  const memory = brokerMiB(rabbit.pid);
  if (flood.received - flood.twice !== mine || flood.foreign > 0)
    throw new Error(`of ${mine} came ${flood.received - flood.twice}, ${flood.foreign} of them to another host`);

  const paced = options.quick ? 1000 : 5000;
  for (let n = 0; n < paced; n += 20) {
    await publish(nova, { from: all + n, count: 20, hosts, noise: false });
    await sleep(20_000 / PACE_PER_SECOND, undefined, { signal });
  }
  await until(async () => (await reports()).received >= 0, signal);
  await sleep(500, undefined, { signal });
  const { ways } = crowd;
  workspace.log(
    `route: published in ${Math.round(published)} ms; ${flood.twice} came twice after a router was killed; the host that got most read ${flood.most} of ${all}`,
  );
  const where = (what: string) => ({ case: `route, ${hosts} hosts: ${what}` });
  return [
    valueRow(where('notifications through'), all / seconds, '/s', undefined, all),
    sumRow(where(`way of one, ${PACE_PER_SECOND}/s`), { ours: ways.slice(-paced) }, 20),
    valueRow(where('read by the host that got most'), (flood.most / all) * 100, '%', undefined, all),
    valueRow(
      where('lost when a router was killed'),
      mine - (flood.received - flood.twice),
      '',
      { text: '0', met: true },
      all,
    ),
    valueRow(where('the broker'), memory, 'MiB'),
  ];
}

type Batch = { readonly from: number; readonly count: number; readonly hosts: number; readonly noise: boolean };

/** Returns how many of them are for a host. */
async function publish(
  nova: ConfirmChannel,
  batch: Batch,
  progress?: (done: number) => Promise<void>,
): Promise<number> {
  const attach = sample('instance-volume_attach-end.json');
  const update = sample('instance-update.json');
  let mine = 0;
  for (let i = 0; i < batch.count; i++) {
    const n = batch.from + i;
    const isNoise = batch.noise && n % 5 < 2;
    if (!isNoise) mine++;
    const host = `compute-${String((n * 7919) % batch.hosts).padStart(4, '0')}.example.org`;
    const at = batch.noise ? 0 : performance.timeOrigin + performance.now();
    const body = isNoise ? update : attach;
    const id = `shiftvol-bench-${n}-${at}-`;
    nova.publish(
      'nova',
      'versioned_notifications.info',
      Buffer.from(body.replaceAll('HOST', host).replaceAll('ID', id)),
      {
        contentType: 'application/json',
        contentEncoding: 'utf-8',
        persistent: true,
      },
    );
    if ((i + 1) % BATCH === 0 || i + 1 === batch.count) await nova.waitForConfirms();
    await progress?.(i + 1);
  }
  return mine;
}

/** An envelope with HOST and ID where they stand. */
function sample(name: string): string {
  const inner = JSON.parse(readFileSync(new URL(name, SAMPLES), 'utf8'));
  const message = { ...inner, publisher_id: 'nova-compute:HOST', message_id: 'ID', _unique_id: 'ID' };
  return JSON.stringify({ 'oslo.version': '2.0', 'oslo.message': JSON.stringify(message) });
}

/** On a channel of its own, which a queue that is not there yet closes. */
async function consumers(connection: ChannelModel, queue: string): Promise<number> {
  const channel = await connection.createChannel();
  channel.on('error', () => undefined);
  try {
    const { consumerCount } = await channel.checkQueue(queue);
    await channel.close();
    return consumerCount;
  } catch {
    return 0;
  }
}

/** What it has in memory, in MiB. */
function brokerMiB(pid: number | undefined): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024);
}

async function until(condition: () => Promise<boolean>, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + TIMEOUT_MS;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('waited in vain for notifications to arrive');
    await sleep(100, undefined, { signal });
  }
}

const sum = (reports: readonly HostsReport[]) => ({
  received: reports.reduce((n, r) => n + r.received, 0),
  twice: reports.reduce((n, r) => n + r.twice, 0),
  foreign: reports.reduce((n, r) => n + r.foreign, 0),
  most: Math.max(...reports.map(r => r.most)),
});

/** Hosts and routers, each in a process of its own; they end with this. */
class Children implements AsyncDisposable {
  /** All times that hosts have reported so far. */
  readonly ways: number[] = [];
  readonly #children: ChildProcess[] = [];

  router(config: string): ChildProcess {
    const child = spawn(process.execPath, [PROGRAM, 'route', '--config', config], {
      stdio: 'ignore',
    });
    this.#children.push(child);
    return child;
  }

  async hosts(url: string, from: number, count: number): Promise<{ report(): Promise<HostsReport> }> {
    const child = spawn(process.execPath, [HOSTS, url, String(from), String(count)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#children.push(child);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async () => {
      const line = await lines.next();
      if (line.done) throw new Error('a process of hosts has ended');
      return line.value;
    };
    await next(); // ready
    return {
      report: async () => {
        child.stdin.write('\n');
        const report: HostsReport = JSON.parse(await next());
        this.ways.push(...report.ways);
        return report;
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise(resolve => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }
  }
}
