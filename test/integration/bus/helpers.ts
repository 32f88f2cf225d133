import { setTimeout as sleep } from 'node:timers/promises';
import { type ConfirmChannel, connect, type GetMessage } from 'amqplib';
import type { Outbox } from '../../../src/bus/outbox.ts';
import { BusService } from '../../../src/bus/service.ts';
import { type Config, schema } from '../../../src/config/schema.ts';
import type { AttachmentEvent, Command } from '../../../src/engine/model.ts';
import type { Note } from '../../rig/oslo/peers.ts';
import { type Rabbit, startRabbit } from '../../rig/rabbit.ts';

export const HOST = 'node1';
export const VOLUME = '83322272-3c67-43d5-a690-6a6d28d71604';

export function configFor(url: string, bus: object = {}): Config {
  const volumes = [{ volume: '*', device: '/dev/disk/by-id/{volume_id}' }];
  const quick = { rebind_ms: 100, reconnect: { min_ms: 100, max_ms: 1000 }, retry: { delay_ms: 200, attempts: 3 } };
  const shape = schema({ host: HOST, bus: { listen: [url], ...quick, ...bus }, bindings: { volumes } }, []);
  return { ...shape, host: HOST, poolDir: '/none', file: 'test' };
}

export class MemoryOutbox implements Outbox {
  #entries: { id: number; event: AttachmentEvent }[] = [];
  #listeners = new Set<() => void>();
  #last = 0;

  add(event: AttachmentEvent): void {
    this.#entries.push({ id: ++this.#last, event });
    for (const listener of this.#listeners) listener();
  }
  pending(limit: number) {
    return this.#entries.slice(0, limit);
  }
  sent(id: number): void {
    this.#entries = this.#entries.filter(e => e.id !== id);
  }
  onAdded(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

export type Line = { readonly level: string; readonly message: string; readonly fields: object };

export function startBus(
  config: Config,
  handle: (command: Command, signal: AbortSignal) => Promise<void>,
  outbox: Outbox = new MemoryOutbox(),
  signal?: AbortSignal,
) {
  const lines: Line[] = [];
  const at =
    (level: string) =>
    (message: string, fields: object = {}) =>
      lines.push({ level, message, fields });
  const log = { info: at('info'), warn: at('warn'), error: at('error'), debug: at('debug') };
  const bus = new BusService({ config, handle, outbox, log }).start(signal);
  return {
    bus,
    lines,
    get status() {
      const [listen] = bus.status.listen;
      if (!listen) throw new Error('nothing is listened to');
      return listen;
    },
    [Symbol.asyncDispose]: () => bus[Symbol.asyncDispose](),
  };
}

/** Waits for a condition, never for a time. */
export async function until(
  what: string,
  condition: () => unknown | Promise<unknown>,
  timeoutMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`Waited ${timeoutMs} ms in vain: ${what}`);
    await sleep(10);
  }
}

/** A connection of the test's own, past oslo.messaging. */
export async function rawChannel(url: string): Promise<AsyncDisposable & { readonly channel: ConfirmChannel }> {
  const model = await connect(url.replace('rabbit://', 'amqp://').replace(/\?.*$/, ''), { noDelay: true });
  const ignore = () => undefined; // a broker that is stopped by a test
  model.on('error', ignore);
  const channel = await model.createConfirmChannel();
  channel.on('error', ignore);
  return { channel, [Symbol.asyncDispose]: () => model.close().catch(ignore) };
}

export type RawBroker = AsyncDisposable & { readonly rabbit: Rabbit; readonly channel: ConfirmChannel };

/** A broker for a file of tests, and a channel to it beside what is tested. */
export async function startRawBroker(): Promise<RawBroker> {
  await using scope = new AsyncDisposableStack();
  const rabbit = scope.use(await startRabbit());
  const { channel } = scope.use(await rawChannel(rabbit.url));
  const kept = scope.move();
  return { rabbit, channel, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Configurations for one broker, each with a queue and dead letters of its own. */
export function ownQueues(rabbit: () => Rabbit): (bus?: object) => Config {
  let queues = 0;
  return (bus = {}) => {
    const n = ++queues;
    const dead = { exchange: `dead.${n}`, queue: `dead.${n}` };
    return configFor(rabbit().url, { queue: `test.${n}.{host}`, dead_letter: dead, ...bus });
  };
}

/** The queue of this configuration. */
export function queueOf({ bus, host }: Config): string {
  return bus.queue.replace('{host}', host);
}

export async function getAll(channel: ConfirmChannel, queue: string): Promise<readonly GetMessage[]> {
  const messages: GetMessage[] = [];
  for (;;) {
    const message = await channel.get(queue, { noAck: true });
    if (message === false) return messages;
    messages.push(message);
  }
}

export const uuid = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

/** Nova's versioned attach of instance `n`, complete enough to be taken for one. */
export function attachNote(n: number, host = HOST): Note {
  return {
    event_type: 'instance.volume_attach.end',
    publisher_id: `nova-compute:${host}`,
    priority: 'INFO',
    exchange: 'nova',
    topic: 'versioned_notifications',
    context: { request_id: `req-${n}` },
    payload: {
      'nova_object.name': 'InstanceActionVolumePayload',
      'nova_object.namespace': 'nova',
      'nova_object.version': '1.6',
      'nova_object.data': { uuid: uuid(n), volume_id: VOLUME, host, request_id: `req-${n}` },
    },
  };
}

/** The body that the Notifier would have sent. */
export function bodyOf(note: Note, message_id: string = crypto.randomUUID()): Buffer {
  const { exchange: _, topic: __, context, ...rest } = note;
  const prefixed = Object.fromEntries(Object.entries(context ?? {}).map(([k, v]) => [`_context_${k}`, v]));
  const inner = {
    message_id,
    _unique_id: message_id.replaceAll('-', ''),
    timestamp: '2026-11-24 15:23:19.548396',
    ...rest,
    ...prefixed,
  };
  return Buffer.from(JSON.stringify({ 'oslo.version': '2.0', 'oslo.message': JSON.stringify(inner) }));
}
export const JSON_PROPERTIES = { contentType: 'application/json', contentEncoding: 'utf-8', persistent: true };
