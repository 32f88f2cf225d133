/** A collector of the tests' own: takes OTLP/HTTP in JSON, and keeps what it was sent. */
import assert from 'node:assert/strict';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

/** As `opentelemetry.proto.trace.v1` says, in its JSON form: ids in hex, times as texts of nanoseconds. */
type Value = {
  readonly stringValue?: string;
  readonly intValue?: number | string;
  readonly doubleValue?: number;
  readonly boolValue?: boolean;
};
type Pair = { readonly key: string; readonly value: Value };
type Body = {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Pair[] };
    readonly scopeSpans: readonly {
      readonly spans: readonly {
        readonly traceId: string;
        readonly spanId: string;
        readonly parentSpanId?: string;
        readonly name: string;
        readonly kind: number;
        readonly startTimeUnixNano: string;
        readonly endTimeUnixNano: string;
        readonly attributes: readonly Pair[];
        readonly status: { readonly code: number; readonly message?: string };
      }[];
    }[];
  }[];
};
type Facts = Readonly<Record<string, unknown>>;

export type SpanSeen = {
  readonly traceId: string;
  readonly id: string;
  readonly parent: string | undefined;
  readonly name: string;
  /** SPAN_KIND_: 1 internal, 2 server, 3 client, 4 producer, 5 consumer. */
  readonly kind: number;
  readonly start: bigint;
  readonly end: bigint;
  readonly attributes: Facts;
  /** STATUS_CODE_: 0 unset, 1 ok, 2 error. */
  readonly status: { readonly code: number; readonly message?: string };
  readonly resource: Facts;
};

export type Collector = AsyncDisposable & {
  readonly endpoint: string;
  readonly spans: readonly SpanSeen[];
  /** Bodies as they came. */
  readonly bodies: readonly string[];
  readonly headers: readonly IncomingHttpHeaders[];
  /** What it answers from now on; 200 at first. `null`: nothing at all. */
  status: number | null;
  /** Waits for a span, and returns the first that fits. */
  until(what: string, fits: (span: SpanSeen) => boolean): Promise<SpanSeen>;
  below(span: SpanSeen): readonly SpanSeen[];
};

export async function startCollector(): Promise<Collector> {
  const spans: SpanSeen[] = [];
  const bodies: string[] = [];
  const headers: IncomingHttpHeaders[] = [];
  const server = createServer(async (request, response) => {
    const body = await text(request);
    assert.equal(request.url, '/v1/traces');
    assert.equal(request.headers['content-type'], 'application/json');
    headers.push(request.headers);
    bodies.push(body);
    if (collector.status === null) return;
    if (collector.status === 200) spans.push(...read(JSON.parse(body)));
    response.writeHead(collector.status, { 'content-type': 'application/json' }).end('{}');
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo; // of a server on TCP
  const collector: Collector = {
    endpoint: `http://127.0.0.1:${port}`,
    spans,
    bodies,
    headers,
    status: 200,
    async until(what, fits) {
      const deadline = performance.now() + 20_000;
      for (;;) {
        const found = spans.find(fits);
        if (found) return found;
        if (performance.now() > deadline)
          throw new Error(`no span: ${what}; there are ${JSON.stringify(spans.map(s => s.name))}`);
        await sleep(20);
      }
    },
    below: ({ id }) => spans.filter(span => span.parent === id).toSorted((a, b) => Number(a.start - b.start)),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
  return collector;
}

function read({ resourceSpans }: Body): readonly SpanSeen[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(scope =>
      scope.spans.map(span => ({
        traceId: span.traceId,
        id: span.spanId,
        parent: span.parentSpanId || undefined,
        name: span.name,
        kind: span.kind,
        start: BigInt(span.startTimeUnixNano),
        end: BigInt(span.endTimeUnixNano),
        attributes: facts(span.attributes),
        status: span.status,
        resource: facts(resource.attributes),
      })),
    ),
  );
}

const facts = (pairs: readonly Pair[]): Facts =>
  Object.fromEntries(
    pairs.map(({ key, value }) => [
      key,
      value.stringValue ?? value.boolValue ?? value.doubleValue ?? Number(value.intValue),
    ]),
  );
