/** Which host a notification is about, for a router: it reads the messages of all hosts, and no field more than that takes. Pure. */
import type { BindingsConfig } from '../config/schema.ts';
import type { IgnoredReason } from './happening.ts';
import { reader } from './translate.ts';

export type Whose =
  | { readonly kind: 'host'; readonly host: string; readonly event: string }
  | { readonly kind: 'ignored'; readonly reason: IgnoredReason }
  | { readonly kind: 'invalid'; readonly reason: string };

const ANY_HOST = { has: () => true };

/** The same readers as a host's own, asked for the host alone. */
export function whose(events: BindingsConfig['events']): (inner: unknown) => Whose {
  const read = reader(events, ANY_HOST);
  return inner => {
    const reading = read(inner);
    if (reading.kind !== 'happening') return reading;
    const { host } = reading.happening;
    return host === null ? { kind: 'ignored', reason: 'no-host' } : { kind: 'host', host, event: reading.rule.event };
  };
}
