/** OpenTelemetry's own packages, put together. Loaded where traces are asked for, and nowhere else. */
import { readFileSync } from 'node:fs';
import type { Tracer } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { detectResources, resourceAttributesEnvDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { ParentBasedSampler, TraceIdRatioBasedSampler, TracerProvider } from '@opentelemetry/sdk-trace';
import type { Log } from '../log/log.ts';
import { SpanQueue } from './queue.ts';
import type { TraceSettings } from './settings.ts';

export type Sdk = { readonly tracer: Tracer; readonly queue: SpanQueue };

/** `host`: as Nova knows it. */
export function openSdk({ url, sampleRatio, serviceName, timeoutMs }: TraceSettings, host: string, log: Log): Sdk {
  const exporter = new OTLPTraceExporter({ url, ...(timeoutMs !== undefined && { timeoutMillis: timeoutMs }) });
  const queue = new SpanQueue(exporter, url, log);
  const version = String(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version);
  const given = resourceFromAttributes({
    'service.name': serviceName,
    'service.version': version,
    'service.instance.id': host,
    'host.name': host,
    'process.pid': process.pid,
  });
  const provider = new TracerProvider({
    resource: given.merge(detectResources({ detectors: [resourceAttributesEnvDetector] })),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(sampleRatio) }),
    spanLimits: { attributeValueLengthLimit: 1024 },
    spanProcessors: [queue],
  });
  return { tracer: provider.getTracer('shiftvol', version), queue };
}
