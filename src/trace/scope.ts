/** One span that others may be below. */

import type { SpanKind } from '@opentelemetry/api';
import {
  type Attributes,
  type Context,
  type HrTime,
  type Span,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { explain } from '../errors.ts';
import { codeOf } from './attributes.ts';

export type Opening = { readonly name: string; readonly kind: SpanKind; readonly attributes: Attributes };

/** Milliseconds of performance.now() as times of day: one offset for a whole trace, so that no child is outside its parent. */
export class Clock {
  readonly #offsetMs = Date.now() - performance.now();

  at(ms: number): HrTime {
    const epochMs = this.#offsetMs + ms;
    const seconds = Math.floor(epochMs / 1000);
    return [seconds, Math.round((epochMs - seconds * 1000) * 1e6)];
  }
}

export class Scope {
  /** The one that a request, or a command that nobody of ours was asked for, began with. */
  readonly root: Scope;
  /** Of a root: events that the broker does not have yet. */
  readonly untold = new Set<string>();
  /** When its work ended, by performance.now(): a root waits for its events. */
  endedMs: number | undefined;
  readonly #tracer: Tracer;
  readonly #span: Span;
  readonly #context: Context;
  readonly #clock: Clock;

  constructor(tracer: Tracer, { name, ...options }: Opening, above: Scope | Context) {
    this.#tracer = tracer;
    this.root = above instanceof Scope ? above.root : this;
    this.#clock = above instanceof Scope ? above.#clock : new Clock();
    const context = above instanceof Scope ? above.#context : above;
    const startTime = this.#clock.at(performance.now());
    this.#span = tracer.startSpan(name, { ...options, startTime }, context);
    this.#context = trace.setSpan(context, this.#span);
  }

  set(attributes: Attributes): void {
    this.#span.setAttributes(attributes);
  }

  fail(error: unknown): void {
    fail(this.#span, error);
  }

  end(atMs = performance.now()): void {
    this.#span.end(this.#clock.at(atMs));
  }

  /** A span below it that ends now, and began so long ago. */
  child({ name, ...options }: Opening, ms: number, error?: unknown): void {
    const now = performance.now();
    const startTime = this.#clock.at(now - ms);
    const span = this.#tracer.startSpan(name, { ...options, startTime }, this.#context);
    if (error !== undefined) fail(span, error);
    span.end(this.#clock.at(now));
  }
}

function fail(span: Span, error: unknown): void {
  span.setAttribute('error.type', codeOf(error));
  span.setStatus({ code: SpanStatusCode.ERROR, message: explain(error) });
}
