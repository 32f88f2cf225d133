/** Where traces go, from the configuration and OpenTelemetry's own environment variables, which go before it. Pure; loads nothing. */
import { httpUrl } from '../config/http-url.ts';
import type { TraceConfig } from '../config/schema.ts';
import { Misfit } from '../config/shape.ts';
import { ShiftvolError } from '../errors.ts';

export type TraceSettings = {
  /** The whole URL: `http://127.0.0.1:4318/v1/traces`. */
  readonly url: string;
  readonly sampleRatio: number;
  readonly serviceName: string;
  /** Absent: as OTEL_EXPORTER_OTLP_TIMEOUT says, which the exporter reads itself. */
  readonly timeoutMs?: number;
  /** What was asked for and is not done. */
  readonly warnings: readonly string[];
};
type Environment = Readonly<Record<string, string | undefined>>;

/** The exporter's own 10 s would keep an agent that ends waiting for a collector that is gone. */
const TIMEOUT_MS = 3000;

/** Undefined: no traces. @throws SV_CONFIG: an endpoint in the environment that is none */
export function traceSettings(config: TraceConfig, env: Environment = process.env): TraceSettings | undefined {
  if (env['OTEL_SDK_DISABLED']?.trim().toLowerCase() === 'true') return undefined;
  if (env['OTEL_TRACES_EXPORTER']?.trim() === 'none') return undefined;
  const url = endpoint(config, env);
  if (url === undefined) return undefined;
  const warnings: string[] = [];
  const protocol = env['OTEL_EXPORTER_OTLP_TRACES_PROTOCOL'] || env['OTEL_EXPORTER_OTLP_PROTOCOL'];
  if (protocol && protocol !== 'http/json') warnings.push(`OTEL_EXPORTER_OTLP_PROTOCOL: http/json is what is sent`);
  const hasTimeout = env['OTEL_EXPORTER_OTLP_TRACES_TIMEOUT'] || env['OTEL_EXPORTER_OTLP_TIMEOUT'];
  return {
    url,
    sampleRatio: ratio(config, env, warnings),
    serviceName: env['OTEL_SERVICE_NAME'] || config.serviceName,
    ...(!hasTimeout && { timeoutMs: TIMEOUT_MS }),
    warnings,
  };
}

function endpoint({ otlpEndpoint }: TraceConfig, env: Environment): string | undefined {
  const whole = env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'];
  if (whole) return checked(whole, 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT');
  const base = env['OTEL_EXPORTER_OTLP_ENDPOINT'];
  const chosen = base ? checked(base, 'OTEL_EXPORTER_OTLP_ENDPOINT') : otlpEndpoint;
  return chosen === null ? undefined : `${chosen.replace(/\/+$/, '')}/v1/traces`;
}

const readUrl = httpUrl({
  accepted: 'http://host:4318 or https://, without user, password and "?",',
  credentials: false,
});

function checked(text: string, variable: string): string {
  try {
    return readUrl(text, []);
  } catch (error) {
    if (!(error instanceof Misfit)) throw error;
    throw new ShiftvolError('SV_CONFIG', `Cannot use the configuration ${variable}: ${error.message}`, {
      field: variable,
      remedy: `correct ${variable}; a token belongs into OTEL_EXPORTER_OTLP_HEADERS`,
    });
  }
}

/** What a caller says of itself counts in any case: of OTEL_TRACES_SAMPLER's ways only how many of the others is taken. */
function ratio({ sampleRatio }: TraceConfig, env: Environment, warnings: string[]): number {
  const sampler = env['OTEL_TRACES_SAMPLER']?.trim() ?? '';
  if (sampler.endsWith('always_on')) return 1;
  if (sampler.endsWith('always_off')) return 0;
  if (sampler !== '' && !sampler.endsWith('traceidratio'))
    warnings.push('OTEL_TRACES_SAMPLER: always_on, always_off, traceidratio and parentbased_ before them are known');
  const text = env['OTEL_TRACES_SAMPLER_ARG']?.trim();
  if (!text) return sampleRatio;
  const value = Number(text);
  if (value >= 0 && value <= 1) return value;
  warnings.push('OTEL_TRACES_SAMPLER_ARG: a number from 0 to 1 is accepted');
  return sampleRatio;
}
