/** The bus as the agent sees it: commands in, results out, for as long as it runs. */
import type { Config } from '../config/schema.ts';
import { ShiftvolError } from '../errors.ts';
import type { Log } from '../log/log.ts';
import { keepConnected } from './connection.ts';
import { type Backlog, Consumer } from './consumer.ts';
import type { Counters } from './counters.ts';
import { type Handler, Intake } from './intake.ts';
import type { Outbox } from './outbox.ts';
import { Publisher } from './publisher.ts';
import { RouteBindings } from './route.ts';
import type { Cast } from './rpc/casts.ts';
import type { RpcEndpoint } from './rpc/endpoint.ts';
import { RpcServer, type RpcStatus } from './rpc/server.ts';
import { type BindingState, Bindings, queueNames } from './topology.ts';
import { rpcUrl, tellUrl } from './urls.ts';

export type BusServiceOptions = {
  readonly config: Config;
  /**
   * Carries a command out. Called in the order of delivery, many at a time. Resolves when the outcome is journaled: the message is
   * acknowledged then. The error of one that fails decides what becomes of the message (see verdict.ts): only what is final is worth
   * telling the bus of, not that a machine that was never ours is gone, nor each of many tries.
   */
  readonly handle: Handler;
  readonly outbox: Outbox;
  /** What may be called over RPC. Absent: there is no RPC. */
  readonly endpoints?: readonly RpcEndpoint[];
  readonly log: Log;
};

export type ListenStatus = {
  /** Without a password. */
  readonly url: string;
  readonly queue: string;
  readonly subscribed: boolean;
  readonly exchanges: Readonly<Record<string, BindingState>>;
  /** Messages that are worked on now. */
  readonly working: number;
  /** Messages in our queue that nobody has yet, and in the dead letters; null before the first look. */
  readonly backlog: Backlog | null;
  readonly counters: Counters;
};
export type BusStatus = {
  /** False where no URL is configured: there is no bus then, and nothing is wrong. */
  readonly configured: boolean;
  /** A consumer is really subscribed on every listen URL and for RPC, and results can be told. Not: a socket is open. */
  readonly healthy: boolean;
  readonly listen: readonly ListenStatus[];
  readonly publisher: { readonly ready: boolean; readonly published: number };
  /** null: nothing can be called. */
  readonly rpc: RpcStatus | null;
};

export class BusService implements AsyncDisposable {
  readonly #config: Config;
  readonly #log: Log;
  readonly #consumers: readonly { readonly url: string; readonly intake: Intake; readonly consumer: Consumer }[];
  readonly #publisher: Publisher;
  readonly #rpc: RpcServer | undefined;
  readonly #stop = new AbortController();
  #running: Promise<unknown> | undefined;

  constructor({ config, handle, outbox, endpoints, log }: BusServiceOptions) {
    this.#config = config;
    this.#log = log;
    this.#consumers = config.bus.listen.map(url => {
      const names = queueNames(config.bus.queue, config.host);
      const sources =
        config.bus.source === 'router'
          ? new RouteBindings(config, names.own, log)
          : new Bindings(config, names.own, log);
      const intake = new Intake(config, handle, log);
      const parts = { names, sources, taker: intake, prefetch: config.bus.prefetch };
      return { url, intake, consumer: new Consumer(config, url, parts, log) };
    });
    this.#publisher = new Publisher(config.bus, outbox, log);
    const url = rpcUrl(config);
    if (endpoints && url !== undefined) this.#rpc = new RpcServer(config, url, endpoints, log);
  }

  /**
   * Begins, and returns at once: a broker that is away is waited for. Ends when this is disposed of, or `signal` is aborted: then
   * handlers are told to stop at once. Once only.
   */
  start(signal?: AbortSignal): this {
    if (this.#running) throw new ShiftvolError('SV_INTERNAL', 'Cannot start the bus: it was started already');
    const stop = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
    const cut = () => {
      for (const { consumer } of this.#consumers) consumer.cut();
      this.#rpc?.cut();
    };
    signal?.addEventListener('abort', cut, { once: true });
    const { bus, host } = this.#config;
    const loops = this.#consumers.map(({ url, consumer }) =>
      keepConnected(url, bus, `shiftvol:${host}:listen`, session => consumer.run(session, stop), this.#log, stop),
    );
    if (this.#rpc) loops.push(this.#rpc.run(stop));
    const tell = tellUrl(this.#config);
    if (tell !== undefined)
      loops.push(keepConnected(tell, bus, `shiftvol:${host}:tell`, s => this.#publisher.run(s, stop), this.#log, stop));
    this.#running = Promise.all(loops);
    this.#running.catch(() => undefined); // told by the disposal
    return this;
  }

  /** To the agent of another host, which does not answer. @throws SV_BUS: it is not there, or nobody can be told now */
  async cast(host: string, cast: Cast): Promise<void> {
    if (!this.#rpc) throw new ShiftvolError('SV_BUS', `Cannot tell host "${host}": no URL is configured for RPC`);
    await this.#rpc.cast(host, cast);
  }

  get status(): BusStatus {
    const listen = this.#consumers.map(({ consumer, intake }) => ({
      url: consumer.url,
      queue: consumer.names.own,
      subscribed: consumer.subscribed,
      exchanges: Object.fromEntries(consumer.exchanges),
      working: intake.working,
      backlog: consumer.backlog ?? null,
      counters: intake.counters,
    }));
    const rpc = this.#rpc?.status ?? null;
    const tells = tellUrl(this.#config) !== undefined;
    const publisher = { ready: this.#publisher.ready, published: this.#publisher.published };
    return {
      configured: tells || rpc !== null,
      healthy: (!tells || publisher.ready) && listen.every(l => l.subscribed) && (rpc?.subscribed ?? true),
      listen,
      publisher,
      rpc,
    };
  }

  /** Takes no new messages, waits for handlers and calls (30 s, then they are told to stop), tells what is in the outbox, and closes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}
