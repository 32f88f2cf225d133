/**
 * From the moment in which Nova's side (Python, oslo.messaging) publishes a notification until `shiftvol.attach.end` is read off the
 * bus, less the attach itself: what the way there and back takes, with Python's own share of it.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { connect } from 'amqplib';
import { startRabbit } from '../../rig/rabbit.ts';
import { Agent } from '../agent.ts';
import type { Bench } from '../bench.ts';
import { writeConfig } from '../host.ts';
import { type Row, sumRow } from '../report.ts';
import { median, round as rounded } from '../statistics.ts';

const OVER_MS = 10;
const FILES = 1000;
const WARM_UP = 3;
const NAME = 'busbench';
const TIMEOUT_MS = 30_000;
const PUBLISH = fileURLToPath(new URL('../publish.py', import.meta.url));
const SAMPLE = new URL('../../fixtures/notifications/nova/instance-volume_attach-end.json', import.meta.url);

export async function busCase(bench: Bench): Promise<readonly Row[]> {
  const { workspace, pool, options } = bench;
  const lxd = await bench.lxd();
  const uuid = randomUUID();
  await lxd.launch(NAME, { 'user.nova_uuid': uuid });
  const template = await pool.template(FILES, 'ext4');
  await using rabbit = await startRabbit();
  const more = {
    bus: { listen: [rabbit.url], url: rabbit.url, rebind_ms: 100 },
    bindings: { volumes: [{ volume: '*', template: template.name }] },
  };
  await using nova = new Publisher(rabbit.url);
  // Makes Nova's exchange, so that the agent finds it at its start.
  await nova.publish(note(randomUUID(), randomUUID()));
  const at = writeConfig(workspace, pool, 'bus', { lxdSocket: lxd.socketPath, more });
  await using agent = await Agent.start(workspace, at, { bus: true });
  await using ends = await Ends.listen(rabbit.url);

  const over: number[] = [];
  const python: number[] = [];
  for (let round = 0; round < options.rounds + WARM_UP; round++) {
    workspace.signal.throwIfAborted();
    const volume = randomUUID();
    const heard = ends.of(volume);
    const { before, after } = await nova.publish(note(uuid, volume));
    const { at, durationMs, error } = await heard;
    if (error) throw new Error(`attach over the bus failed: ${error}`);
    await agent.execute({ action: 'destroy', instance: { ref: uuid }, target: `/mnt/${volume}`, lazy: false });
    if (round < WARM_UP) continue;
    over.push(at - before - durationMs);
    python.push(after - before);
  }
  workspace.log(`bus: of that, Python's publish until the broker has confirmed: ${rounded(median(python))} ms`);
  await lxd.stop(NAME);
  await lxd.delete(NAME);
  return [sumRow({ case: 'notification to attach.end', files: FILES, fs: 'ext4' }, { ours: over }, OVER_MS)];
}

type Note = { readonly event_type: string; readonly publisher_id: string; readonly payload: unknown };

/** As Nova sends it, for this host. */
function note(instance: string, volume: string): Note {
  const sample = JSON.parse(readFileSync(SAMPLE, 'utf8'));
  const data = sample.payload['nova_object.data'];
  const own = { uuid: instance, host: 'bench', volume_id: volume, request_id: `req-${randomUUID()}` };
  const payload = { ...sample.payload, 'nova_object.data': { ...data, ...own } };
  return { event_type: sample.event_type, publisher_id: 'nova-compute:bench', payload };
}

class Publisher implements AsyncDisposable {
  readonly #child;
  readonly #lines: AsyncIterator<string>;

  constructor(url: string) {
    this.#child = spawn('/usr/bin/python3', [PUBLISH, '--url', url], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async publish(one: Note): Promise<{ before: number; after: number }> {
    this.#child.stdin.write(`${JSON.stringify(one)}\n`);
    const next = await this.#lines.next();
    if (next.done) throw new Error('publish.py ended');
    return JSON.parse(next.value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise(resolve => this.#child.once('close', resolve));
    this.#child.stdin.end();
    await ended;
  }
}

type End = { readonly at: number; readonly durationMs: number; readonly error: string | undefined };

/** Reads our results off the bus, as any listener could. */
class Ends implements AsyncDisposable {
  readonly #waiting = new Map<string, (end: End) => void>();
  readonly #connection: Awaited<ReturnType<typeof connect>>;

  private constructor(connection: Awaited<ReturnType<typeof connect>>) {
    this.#connection = connection;
  }

  static async listen(url: string): Promise<Ends> {
    const ends = new Ends(await connect(url.replace(/^rabbit:/, 'amqp:').replace(/\/$/, ''), { noDelay: true }));
    const channel = await ends.#connection.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    for (const priority of ['info', 'error']) await channel.bindQueue(queue, 'shiftvol', `notifications.${priority}`);
    await channel.consume(queue, message => message && ends.#take(message.content), { noAck: true });
    return ends;
  }

  of(volumeId: string): Promise<End> {
    const { promise, resolve, reject } = Promise.withResolvers<End>();
    const timer = setTimeout(() => reject(new Error('no attach.end was heard')), TIMEOUT_MS);
    this.#waiting.set(volumeId, end => {
      clearTimeout(timer);
      resolve(end);
    });
    return promise;
  }

  #take(content: Buffer): void {
    const at = performance.timeOrigin + performance.now();
    const { event_type: type, payload } = JSON.parse(JSON.parse(content.toString('utf8'))['oslo.message']);
    if (type !== 'shiftvol.attach.end' && type !== 'shiftvol.attach.error') return;
    this.#waiting.get(payload.volume_id)?.({ at, durationMs: payload.duration_ms, error: payload.error?.message });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection.close();
  }
}
