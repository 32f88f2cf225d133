/**
 * `shiftvol route`: reads the notifications of all hosts once, and gives each host its own. Any number of them may run: they share one
 * queue, and keep nothing. A message is acknowledged when the broker has it in the host's queue; a router that dies in between makes a
 * second copy at most, which the host knows again by its message id.
 */
import { channel } from 'node:diagnostics_channel';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsumeMessage } from 'amqplib';
import type { Config } from '../config/schema.ts';
import { maskUrl } from '../config/transport-url.ts';
import { IGNORED_REASONS, type IgnoredReason } from '../events/happening.ts';
import { type Whose, whose } from '../events/whose.ts';
import { LimitedLines } from '../log/limit.ts';
import type { Log } from '../log/log.ts';
import { type PublishProperties, textHeaders } from './channel.ts';
import { keepConnected, type Session } from './connection.ts';
import { type Backlog, Consumer, type Taker } from './consumer.ts';
import { decode } from './envelope.ts';
import { giveBack } from './give-back.ts';
import type { Desk } from './intake.ts';
import { passageOf } from './outlet.ts';
import { declareRoute, routeKey } from './route.ts';
import { Bindings, queueNames } from './topology.ts';

/** What became of messages since the start. */
export type RouterCounters = {
  received: number;
  /** In a host's queue. */
  routed: number;
  /** For a host that has no agent, or none yet. */
  unrouted: number;
  dead: number;
  requeued: number;
  readonly ignored: Record<IgnoredReason, number>;
};

export type RouterStatus = {
  readonly healthy: boolean;
  readonly listen: readonly {
    readonly url: string;
    readonly queue: string;
    readonly subscribed: boolean;
    readonly exchanges: Readonly<Record<string, string>>;
    /** Messages given to the broker that it has not confirmed yet. */
    readonly working: number;
    /** null before the first look. */
    readonly backlog: Backlog | null;
    readonly counters: RouterCounters;
  }[];
};

/** Published for each message that went somewhere, when it is acknowledged: how long it was here. */
export type RoutedMessage = { readonly ms: number };
export const routedChannel = channel('shiftvol.routed');

export class Router implements AsyncDisposable {
  readonly #consumers: readonly { readonly url: string; readonly desk: RouterDesk; readonly consumer: Consumer }[];
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;

  /** Begins at once; a broker that is away is waited for. */
  constructor(config: Config, log: Log) {
    const { bus } = config;
    this.#consumers = bus.listen.map(url => {
      const names = queueNames(bus.route.queue, config.host);
      const desk = new RouterDesk(config, log);
      const sources = new Bindings(config, names.own, log);
      return {
        url,
        desk,
        consumer: new Consumer(config, url, { names, sources, taker: desk, prefetch: bus.route.prefetch }, log),
      };
    });
    const stop = this.#stop.signal;
    const name = `shiftvol:${config.host}:route`;
    this.#running = Promise.all(
      this.#consumers.map(({ url, consumer }) => {
        const use = async (session: Session) => {
          await declareRoute(session, bus.route.exchange, log);
          await consumer.run(session, stop);
        };
        return keepConnected(url, bus, name, use, log, stop);
      }),
    );
    this.#running.catch(() => undefined); // told by the disposal
  }

  get status(): RouterStatus {
    const listen = this.#consumers.map(({ url, desk, consumer }) => ({
      url: maskUrl(url),
      queue: consumer.names.own,
      subscribed: consumer.subscribed,
      exchanges: Object.fromEntries(consumer.exchanges),
      working: desk.working,
      backlog: consumer.backlog ?? null,
      counters: desk.counters,
    }));
    return { healthy: listen.length > 0 && listen.every(l => l.subscribed), listen };
  }

  /** Takes no new messages, and waits for those that are on their way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}

class RouterDesk implements Taker {
  readonly counters: RouterCounters = {
    received: 0,
    routed: 0,
    unrouted: 0,
    dead: 0,
    requeued: 0,
    ignored: Object.fromEntries(IGNORED_REASONS.map(r => [r, 0])) as RouterCounters['ignored'], // fromEntries forgets the keys
  };
  readonly #config: Config['bus'];
  readonly #whose: (inner: unknown) => Whose;
  readonly #log: Log;
  readonly #buried: LimitedLines;
  readonly #working = new Set<Promise<void>>();

  constructor({ bus, bindings }: Config, log: Log) {
    this.#config = bus;
    this.#whose = whose(bindings.events);
    this.#log = log;
    this.#buried = new LimitedLines(log, 'warn');
  }

  get working(): number {
    return this.#working.size;
  }

  /** Up to the publish it is synchronous: a host gets its messages in the order in which they came. */
  take(message: ConsumeMessage, desk: Desk): void {
    this.counters.received++;
    const work = this.#route(message, desk);
    if (work === undefined) return;
    this.#working.add(work);
    work.finally(() => this.#working.delete(work));
  }

  async settled(timeoutMs: number): Promise<void> {
    await Promise.race([Promise.allSettled(this.#working), sleep(timeoutMs, undefined, { ref: false })]);
  }

  /** What is on its way to the broker cannot be called back. */
  cut(): void {}

  #route(message: ConsumeMessage, desk: Desk): Promise<void> | undefined {
    const decoded = decode(message, this.#config.maxMessage);
    const read = decoded.ok ? this.#whose(decoded.inner) : ({ kind: 'invalid', reason: decoded.reason } as const);
    switch (read.kind) {
      case 'ignored':
        this.counters.ignored[read.reason]++;
        desk.channel.ack(message);
        return undefined;
      case 'invalid':
        return this.#end(message, desk, this.#bury(message, desk, read.reason));
      case 'host': {
        const key = routeKey(read.host, read.event);
        if (key === undefined)
          return this.#end(
            message,
            desk,
            this.#bury(message, desk, 'the name of its host is too long for a routing key'),
          );
        return this.#end(message, desk, this.#give(message, desk, key));
      }
      default:
        return read satisfies never;
    }
  }

  async #end(message: ConsumeMessage, desk: Desk, work: Promise<void>): Promise<void> {
    const began = routedChannel.hasSubscribers ? performance.now() : undefined;
    try {
      await work;
      desk.channel.ack(message);
      if (began === undefined) return;
      const routed: RoutedMessage = { ms: performance.now() - began };
      routedChannel.publish(routed);
    } catch (error) {
      const how = { waitMs: this.#config.reconnect.minMs, log: this.#log };
      if (await giveBack(message, desk, error, how)) this.counters.requeued++;
    }
  }

  /** As it came: the body is not touched, and what a host must know of its way goes along as text. */
  async #give(message: ConsumeMessage, { channel }: Desk, key: string): Promise<void> {
    const { contentType, contentEncoding } = message.properties;
    const properties: PublishProperties = {
      ...(typeof contentType === 'string' ? { contentType } : {}),
      ...(typeof contentEncoding === 'string' ? { contentEncoding } : {}),
      headers: textHeaders(message),
    };
    const { exchange } = this.#config.route;
    if (await channel.offer(exchange, key, message.content, properties, { mandatory: true })) this.counters.routed++;
    else this.counters.unrouted++; // a host of another kind
  }

  async #bury(message: ConsumeMessage, { outlet }: Desk, why: string): Promise<void> {
    await outlet.bury(message, { code: 'SV_MESSAGE', reason: why });
    this.counters.dead++;
    const { exchange, key } = passageOf(message);
    this.#buried.say('dead letter', { reason: why, exchange, key, bytes: message.content.length });
  }
}
