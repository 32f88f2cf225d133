/** The RPC server: oslo.messaging's topic, server and fanout queues, for as long as the agent runs, over connections that come and go. */
import type { ConsumeMessage } from 'amqplib';
import type { Config } from '../../config/schema.ts';
import { maskUrl } from '../../config/transport-url.ts';
import type { Log } from '../../log/log.ts';
import { BusChannel } from '../channel.ts';
import { deadline, keepConnected, reason, type Session } from '../connection.ts';
import { Calls, type Place, type RpcCounters } from './calls.ts';
import { type Cast, Casts } from './casts.ts';
import type { RpcEndpoint } from './endpoint.ts';
import { declareRpc, type RpcQueues, rpcQueues } from './queues.ts';
import { Replies } from './replies.ts';

/** How long calls may go on at a stop before they are told to; how long they may take then; and their replies. */
const STOP_TIMEOUT_MS = 30_000;
const CUT_TIMEOUT_MS = 10_000;
const REPLY_TIMEOUT_MS = 5000;
/** A connection that ends so soon after the first message could come was perhaps ended by a message. */
const SUSPICIOUS_MS = 5000;
/** What is then taken out of each queue, one by one. */
const MAX_DRAINED = 1000;
const GET_TIMEOUT_MS = 10_000;

export type RpcStatus = {
  /** Without a password. */
  readonly url: string;
  readonly topic: string;
  readonly server: string;
  /** Consumers are really there on all three queues. */
  readonly subscribed: boolean;
  readonly running: number;
  readonly counters: RpcCounters & Replies['counters'];
};

export class RpcServer {
  readonly #config: Config;
  readonly #url: string;
  readonly #log: Log;
  readonly #queues: RpcQueues;
  readonly #replies: Replies;
  readonly #calls: Calls;
  readonly #casts: Casts;
  #subscribed = false;
  #suspicious = false;

  constructor(config: Config, url: string, endpoints: readonly RpcEndpoint[], log: Log) {
    this.#config = config;
    this.#url = url;
    this.#log = log;
    this.#queues = rpcQueues(config.rpc, config.host);
    this.#casts = new Casts(this.#queues);
    this.#replies = new Replies({ log, maxBytes: config.bus.maxMessage });
    this.#calls = new Calls(config, endpoints, this.#replies, log);
  }

  get status(): RpcStatus {
    return {
      url: maskUrl(this.#url),
      topic: this.#config.rpc.topic,
      server: this.#config.host,
      subscribed: this.#subscribed,
      running: this.#calls.running,
      counters: { ...this.#calls.counters, ...this.#replies.counters },
    };
  }

  /** @throws SV_BUS */
  async cast(host: string, cast: Cast): Promise<void> {
    await this.#casts.send(host, cast);
  }

  /** Tells the methods to stop, instead of waiting for them. */
  cut(): void {
    this.#calls.cut();
  }

  /** Serves until `stop` is aborted. Resolves when what ran then has ended and its callers were told; a connection is kept for that. */
  async run(stop: AbortSignal): Promise<void> {
    const over = new AbortController();
    const connected = keepConnected(
      this.#url,
      this.#config.bus,
      `shiftvol:${this.#config.host}:rpc`,
      session => this.#session(session, stop, over.signal),
      this.#log,
      over.signal,
    );
    await aborted(stop);
    this.#calls.release();
    await this.#calls.settled(STOP_TIMEOUT_MS);
    this.#calls.cut();
    await this.#calls.settled(CUT_TIMEOUT_MS);
    await this.#replies.settled(REPLY_TIMEOUT_MS);
    over.abort();
    await connected;
  }

  async #session(session: Session, stop: AbortSignal, over: AbortSignal): Promise<void> {
    await using replying = await BusChannel.open(session);
    this.#replies.use(replying);
    this.#casts.use(replying);
    const ended = AbortSignal.any([replying.signal, over]);
    while (!stop.aborted && !ended.aborted) {
      await declareRpc(session, this.#config.rpc, this.#queues, this.#log);
      if (this.#suspicious) await this.#drain(session);
      const why = await this.#consume(session, AbortSignal.any([ended, stop]));
      if (!stop.aborted && !ended.aborted)
        this.#log.warn('the RPC subscription ended; all is declared again', { topic: this.#config.rpc.topic, why });
    }
    await aborted(ended);
  }

  /**
   * Python can write headers that amqplib cannot read: such a message ends our connection, and being unacknowledged comes again with
   * the next one. Fetched without acknowledgement it does so once. (A quorum queue writes headers anew; it also takes every call
   * to the disk.)
   */
  async #drain(session: Session): Promise<void> {
    await using channel = await BusChannel.open(session);
    for (const queue of this.#names) {
      for (let n = 0; n < MAX_DRAINED; n++) {
        await this.#calls.room();
        // The signal, since amqplib forgets who waits for a message that it cannot read.
        const message = await deadline(channel.raw.get(queue, { noAck: true }), GET_TIMEOUT_MS, channel.signal);
        if (message === false) break;
        this.#calls.take(message, { accept: () => true });
      }
    }
  }

  /** Resolves when the subscription has ended, whoever ended it, with the reason. */
  async #consume(session: Session, stop: AbortSignal): Promise<string> {
    await using channel = await BusChannel.open(session);
    const cancelled = new AbortController();
    const ended = AbortSignal.any([channel.signal, cancelled.signal, stop]);
    await channel.raw.prefetch(this.#config.rpc.parallel, false);
    const tags: string[] = [];
    const since = performance.now();
    try {
      for (const queue of this.#names) {
        const { consumerTag } = await channel.raw.consume(queue, message => {
          if (message === null) cancelled.abort(new Error(`the queue "${queue}" was taken away`));
          else this.#calls.take(message, placeOf(message, channel));
        });
        tags.push(consumerTag);
      }
      this.#subscribed = !ended.aborted;
      const { exchange, topic } = this.#config.rpc;
      this.#log.info('answers RPC', { exchange, topic, server: this.#config.host, broker: session.broker });
      await aborted(ended);
    } finally {
      this.#subscribed = false;
      this.#suspicious = channel.signal.aborted && performance.now() - since < SUSPICIOUS_MS;
      if (!channel.signal.aborted) await this.#unsubscribe(channel, tags, stop.aborted);
    }
    return reason(ended.reason);
  }

  get #names(): readonly string[] {
    const { shared, own, fanout } = this.#queues;
    return [shared.name, own.name, fanout];
  }

  /** What waits goes back to the broker when the channel is closed. The fanout queue is of no use to the next process. */
  async #unsubscribe(channel: BusChannel, tags: readonly string[], last: boolean): Promise<void> {
    const ignore = () => undefined; // closed meanwhile: that ends it, too
    for (const tag of tags) await channel.raw.cancel(tag).catch(ignore);
    if (last) await channel.raw.deleteQueue(this.#queues.fanout).catch(ignore);
  }
}

/** It does not hold the bytes: who takes them decides how long they are kept. */
function placeOf({ fields, properties }: ConsumeMessage, channel: BusChannel): Place {
  const empty = { fields, properties, content: Buffer.alloc(0) };
  return { accept: () => channel.ack(empty), giveBack: () => channel.requeue(empty) };
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise(resolve => signal.addEventListener('abort', () => resolve(), { once: true }));
}
