/** The broker, where one is configured: reached, its exchanges and our queue looked at, nothing declared. */
import { type BusCheck, checkBus } from '../bus/doctor.ts';
import type { Config } from '../config/schema.ts';
import type { Check } from './check.ts';

export async function busChecks(config: Config, signal: AbortSignal): Promise<Check[]> {
  return judgedBus(await checkBus(config, signal));
}

/**
 * Needed is one broker that answers. A host of several that is away is worth a look, and so is all else: an exchange that is not there
 * comes with the service, a queue with the agent.
 */
export function judgedBus(found: readonly BusCheck[]): Check[] {
  const reached = found.some(c => c.check === 'bus.connect' && c.ok);
  return found.map(({ check, ok, detail, remedy }) => ({
    check: `bus.${check.replace(/^bus\./, '')}`,
    ok: ok || (check === 'bus.connect' && !reached ? false : 'warn'),
    detail,
    ...(remedy === undefined ? {} : { remedy }),
  }));
}
