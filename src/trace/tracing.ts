/**
 * The spans of what this process does: a request (a message of the bus, a remote call, an HTTP request), the commands that it leads to, their
 * steps, and the telling of its end. Made from what the engine tells of itself, which knows nothing of them.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Channel, TracingChannel } from 'node:diagnostics_channel';
import { ROOT_CONTEXT, SpanKind } from '@opentelemetry/api';
import {
  type CommandMessage,
  commandChannel,
  type RequestMessage,
  requestChannel,
  type ToldMessage,
  toldChannel,
} from '../engine/channels.ts';
import { eventChannel } from '../engine/events.ts';
import type { AttachmentEvent } from '../engine/model.ts';
import { type StepMessage, stepChannel } from '../engine/saga.ts';
import type { Log } from '../log/log.ts';
import {
  commandAttributes,
  outcomeAttributes,
  planAttributes,
  REQUEST_KINDS,
  requestAttributes,
  requestName,
  toldAttributes,
} from './attributes.ts';
import { Scope } from './scope.ts';
import type { Sdk } from './sdk.ts';
import { callerContext } from './traceparent.ts';

/** A request is traced up to the telling of its end; no longer than this, where the broker is away. */
const TELLING_MS = 10_000;
const MOST_UNTOLD = 1000;
/** For the last spans, at the end of the process. */
const FLUSH_MS = 3000;

type Heard = Pick<Channel, 'subscribe' | 'unsubscribe'>;
type Failing = { readonly error?: unknown };

export type TracingOptions = {
  /** Whether events are told to a broker. */
  readonly tells: boolean;
  readonly log: Log;
};

export class Tracing implements AsyncDisposable {
  readonly #sdk: Sdk;
  readonly #tells: boolean;
  readonly #log: Log;
  readonly #current = new AsyncLocalStorage<unknown>();
  readonly #scopes = new WeakMap<object, Scope>();
  /** Roots by the events that they wait for. */
  readonly #untold = new Map<string, Scope>();
  readonly #stop = new DisposableStack();
  #faults = 0;

  /** Traces from now on. */
  constructor(sdk: Sdk, { tells, log }: TracingOptions) {
    this.#sdk = sdk;
    this.#tells = tells;
    this.#log = log;
    this.#watch(requestChannel, this.#beginRequest, this.#endRequest);
    this.#watch(commandChannel, this.#beginCommand, this.#endCommand);
    this.#listen(stepChannel, this.#onStep);
    this.#listen(eventChannel, this.#onEvent);
    this.#listen(toldChannel, this.#onTold);
  }

  /** Sends what there is, for a moment, and ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.dispose();
    for (const root of new Set(this.#untold.values())) this.#close(root);
    await this.#sdk.queue.end(FLUSH_MS);
  }

  get counters(): Sdk['queue']['counters'] {
    return this.#sdk.queue.counters;
  }

  readonly #beginRequest = (request: RequestMessage): Scope =>
    new Scope(
      this.#sdk.tracer,
      { name: requestName(request), kind: REQUEST_KINDS[request.by], attributes: requestAttributes(request) },
      callerContext(request.traceparent, request.tracestate),
    );

  readonly #endRequest = (scope: Scope, request: RequestMessage & Failing): void => {
    const failure = request.error ?? request.failure;
    if (failure !== undefined) scope.fail(failure);
    scope.set({ 'shiftvol.outcome': request.outcome ?? (failure === undefined ? 'done' : 'failed') });
    this.#ended(scope);
  };

  /** Of a request, or of its own: what no request asked for is traced too. */
  readonly #beginCommand = (message: CommandMessage): Scope =>
    new Scope(
      this.#sdk.tracer,
      { name: message.command.action, kind: SpanKind.INTERNAL, attributes: commandAttributes(message) },
      this.#scope ?? ROOT_CONTEXT,
    );

  readonly #endCommand = (scope: Scope, { error, result }: CommandMessage & Failing): void => {
    const attributes = result ? outcomeAttributes(result) : { 'shiftvol.outcome': 'failed' };
    scope.set(attributes);
    if (error !== undefined) scope.fail(error);
    if (scope.root === scope) this.#ended(scope);
    else scope.end();
    // What it was about is looked for by the request.
    const { 'shiftvol.outcome': _, ...about } = attributes;
    scope.root.set(about);
  };

  readonly #onStep = ({ step, plan, ms, error }: StepMessage): void => {
    const scope = this.#scope;
    if (scope === undefined) return;
    const about = planAttributes(plan);
    scope.set(about);
    scope.root.set(about);
    scope.child({ name: step, kind: SpanKind.INTERNAL, attributes: { ...about, 'shiftvol.step': step } }, ms, error);
  };

  readonly #onEvent = (event: AttachmentEvent): void => {
    const root = this.#scope?.root;
    if (!this.#tells || root === undefined || event.phase === 'start' || this.#untold.size >= MOST_UNTOLD) return;
    const key = keyOf(event);
    root.untold.add(key);
    this.#untold.set(key, root);
  };

  readonly #onTold = (told: ToldMessage): void => {
    const key = keyOf(told.event);
    const root = this.#untold.get(key);
    if (root === undefined) return;
    root.child(
      { name: `publish ${told.exchange}`, kind: SpanKind.PRODUCER, attributes: toldAttributes(told) },
      told.ms,
    );
    this.#untold.delete(key);
    root.untold.delete(key);
    if (root.endedMs !== undefined && root.untold.size === 0) root.end();
  };

  #ended(root: Scope): void {
    root.endedMs = performance.now();
    if (root.untold.size === 0) root.end();
    else setTimeout(() => this.#close(root), TELLING_MS).unref();
  }

  /** Nothing more is waited for. */
  #close(root: Scope): void {
    if (root.untold.size === 0) return;
    for (const key of root.untold) this.#untold.delete(key);
    root.untold.clear();
    root.end(root.endedMs);
  }

  get #scope(): Scope | undefined {
    const scope = this.#current.getStore();
    return scope instanceof Scope ? scope : undefined;
  }

  #watch<M extends object>(
    channel: TracingChannel<unknown, M>,
    begin: (message: M) => Scope,
    end: (scope: Scope, message: M & Failing) => void,
  ): void {
    const onStart = this.#safely((message: M) => {
      const scope = begin(message);
      this.#scopes.set(message, scope);
      return scope;
    });
    channel.start.bindStore(this.#current, onStart);
    this.#stop.defer(() => void channel.start.unbindStore(this.#current));
    this.#listen(channel.asyncEnd, (message: M & Failing) => {
      const scope = this.#scopes.get(message);
      if (scope) end(scope, message);
    });
  }

  /** `listener` is called with what the one publisher of this channel publishes. */
  #listen<M>(channel: Heard, listener: (message: M) => void): void {
    const safe = this.#safely(listener);
    const onMessage = (message: unknown): void => void safe(message as M);
    channel.subscribe(onMessage);
    this.#stop.defer(() => void channel.unsubscribe(onMessage));
  }

  /** What a listener throws would end the process. A trace is not worth that. */
  #safely<M, R>(listener: (message: M) => R): (message: M) => R | undefined {
    return message => {
      try {
        return listener(message);
      } catch (error) {
        if (this.#faults++ === 0) this.#log.error('a fault in tracing; the work goes on', { error: String(error) });
        return undefined;
      }
    };
  }
}

/** An event as it was made and as it was told are two objects: it was in the journal in between. */
function keyOf({ at, action, phase, instance, attachmentId, requestId }: AttachmentEvent): string {
  return [at, action, phase, instance, attachmentId, requestId].join('\n');
}
