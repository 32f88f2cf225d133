/** What comes in over bus and socket, counted as it comes to its end, by what this process tells of itself. */
import { type RequestMessage, requestChannel } from '../engine/channels.ts';
import type { Metrics } from './client.ts';

const WAYS = ['notification', 'call', 'cast', 'http'] as const satisfies readonly RequestMessage['by'][];
/** A message may wait for a host that is down, or be tried again for two minutes. */
const AGES = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];

/** Counts from now on; `update` brings the rest up to date. */
export function countRequests(metrics: Metrics): Disposable & { update(): void } {
  const took = metrics.histogram(
    'shiftvol_request_duration_seconds',
    'Requests from their arrival here to their end. By: notification, call or cast (RPC), http (socket).',
    ['by', 'outcome'],
  );
  const ages = metrics.histogram(
    'shiftvol_bus_message_age_seconds',
    'Notifications that ask something of this host: from being sent, by the clock there, to their end here. Waiting in queues and other tries included.',
    [],
    AGES,
  );
  const oldest = metrics.gauge(
    'shiftvol_request_oldest_seconds',
    'How long the oldest request is here that has not ended.',
    ['by'],
  );
  const oldestMessage = metrics.gauge(
    'shiftvol_bus_message_oldest_seconds',
    'How long ago the oldest notification was sent, by the clock there, that is worked on.',
  );
  const started = new Map<RequestMessage, number>();
  const handlers = {
    start: (message: RequestMessage) => void started.set(message, performance.now()),
    end: () => undefined,
    asyncStart: () => undefined,
    asyncEnd: (message: RequestMessage & { readonly error?: unknown }) => {
      const begun = started.get(message);
      if (begun === undefined) return;
      started.delete(message);
      const failed = message.error !== undefined || message.failure !== undefined;
      took.observe({ by: message.by, outcome: failed ? 'error' : 'ok' }, (performance.now() - begun) / 1000);
      // One that is put aside has not come to its end.
      const age = message.outcome === 'retry' ? undefined : ageOf(message);
      if (age !== undefined) ages.observe(age);
    },
    error: () => undefined,
  };
  requestChannel.subscribe(handlers);
  return {
    update() {
      const now = performance.now();
      const under = [...started];
      for (const by of WAYS)
        oldest.set({ by }, Math.max(0, ...under.filter(([m]) => m.by === by).map(([, at]) => (now - at) / 1000)));
      oldestMessage.set(Math.max(0, ...under.map(([message]) => ageOf(message) ?? 0)));
    },
    [Symbol.dispose]: () => requestChannel.unsubscribe(handlers),
  };
}

/** Two clocks that differ make no message younger than nothing. */
function ageOf({ delivery }: RequestMessage): number | undefined {
  return delivery?.sentAt === undefined ? undefined : Math.max(0, (Date.now() - Date.parse(delivery.sentAt)) / 1000);
}
