/** Begins tracing: what is loaded where it is asked for, and nowhere else. */
import type { Log } from '../log/log.ts';
import { openSdk } from './sdk.ts';
import type { TraceSettings } from './settings.ts';
import { Tracing } from './tracing.ts';

/** `tells`: whether events go to a broker. Disposing sends what there is, for three seconds at most. */
export function startTracing(
  settings: TraceSettings,
  { host, tells, log }: { readonly host: string; readonly tells: boolean; readonly log: Log },
): Tracing {
  for (const warning of settings.warnings) log.warn(warning);
  const { url, sampleRatio, serviceName } = settings;
  log.info('traces are sent', { collector: url, sample_ratio: sampleRatio, service_name: serviceName });
  return new Tracing(openSdk(settings, host, log), { tells, log });
}
