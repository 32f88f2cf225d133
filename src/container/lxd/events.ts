import { setTimeout as sleep } from 'node:timers/promises';
import type { LxdClient } from './client.ts';
import { messages, openWebSocket } from './websocket.ts';
import { isRecord } from './wire.ts';

/** `connected` comes first and after each gap: what happened before it was not heard, so look at the present state. */
export type LxdEvent =
  | { readonly kind: 'connected' }
  | {
      readonly kind: 'instance';
      /** As LXD names it: `instance-started`, `instance-stopped`, `instance-deleted`, `instance-renamed`, ... */
      readonly action: string;
      readonly project: string;
      readonly name: string;
      /** ISO 8601 */
      readonly at: string;
    };

const PATH = '/1.0/events?type=lifecycle&all-projects=true';
const MAX_PAUSE_MS = 10_000;

/** What happens to the instances of this host, until the signal aborts. Connects again by itself, at the latest after 15 s. */
export async function* lifecycleEvents(client: LxdClient, signal: AbortSignal): AsyncGenerator<LxdEvent> {
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      const { member } = await client.server(signal);
      const socket = await openWebSocket(await client.socketPath(), PATH, signal);
      try {
        failures = 0;
        yield { kind: 'connected' };
        for await (const message of messages(socket)) {
          const event = instanceEvent(message, member);
          if (event) yield event;
        }
      } finally {
        socket.destroy();
      }
    } catch (error) {
      // Whatever the reason, it is tried again; who wants to know it asks `server()`.
      if (!(error instanceof Error)) throw error;
    }
    await pause(Math.min(MAX_PAUSE_MS, 100 * 2 ** failures) * (0.5 + Math.random()), signal);
  }
}

/** One message of LXD's as an event; undefined where it is about something else, or on another member of the cluster. */
export function instanceEvent(message: string, member: string): LxdEvent | undefined {
  const event: unknown = JSON.parse(message);
  if (!isRecord(event) || event['type'] !== 'lifecycle' || !isRecord(event['metadata'])) return undefined;
  const { action, source } = event['metadata'];
  const { location = 'none', timestamp } = event;
  if (typeof action !== 'string' || typeof source !== 'string') return undefined;
  if (location !== 'none' && location !== '' && location !== member) return undefined;
  const { pathname, searchParams } = new URL(source, 'http://lxd');
  const [, name] = pathname.match(/^\/1\.0\/(?:instances|containers)\/([^/]+)$/) ?? [];
  if (name === undefined) return undefined;
  return {
    kind: 'instance',
    action,
    project: searchParams.get('project') ?? 'default',
    name: decodeURIComponent(name),
    at: typeof timestamp === 'string' ? timestamp : '',
  };
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
