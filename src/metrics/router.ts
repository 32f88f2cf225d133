/** What a router does. */
import { type RoutedMessage, type RouterStatus, routedChannel } from '../bus/router.ts';
import { brokerOf } from './bus.ts';
import { type Metrics, setCounter } from './client.ts';

/** Counts from now on; `update` brings the rest up to date. */
export function routerMetrics(metrics: Metrics, status: () => RouterStatus): Disposable & { update(): void } {
  const at = ['broker', 'queue'] as const;
  const subscribed = metrics.gauge('shiftvol_router_subscribed', 'A consumer is really there: 1, else 0.', at);
  const messages = metrics.counter(
    'shiftvol_router_messages_total',
    'Messages by what became of them. Unrouted: their host has no agent, or none yet.',
    [...at, 'outcome'],
  );
  const unconfirmed = metrics.gauge(
    'shiftvol_router_unconfirmed',
    'Messages given to the broker that it has not confirmed.',
    at,
  );
  const waiting = metrics.gauge(
    'shiftvol_router_queue_messages',
    'Messages in the routers’ queue that none has, at the last look (each minute).',
    at,
  );
  const took = metrics.histogram(
    'shiftvol_router_duration_seconds',
    'From the arrival of a message to the broker having it for its host.',
  );
  const onRouted = (message: unknown) => took.observe((message as RoutedMessage).ms / 1000);
  routedChannel.subscribe(onRouted);
  return {
    update() {
      const counted: [{ broker: string; queue: string; outcome: string }, number][] = [];
      for (const { url, queue, counters, backlog, working, ...listen } of status().listen) {
        const broker = brokerOf(url);
        subscribed.set({ broker, queue }, listen.subscribed ? 1 : 0);
        unconfirmed.set({ broker, queue }, working);
        if (backlog) waiting.set({ broker, queue }, backlog.waiting);
        const { ignored, ...outcomes } = counters;
        for (const [outcome, n] of Object.entries(outcomes)) counted.push([{ broker, queue, outcome }, n]);
        const skipped = Object.values(ignored).reduce((sum, n) => sum + n, 0);
        counted.push([{ broker, queue, outcome: 'ignored' }, skipped]);
      }
      setCounter(messages, counted);
    },
    [Symbol.dispose]: () => routedChannel.unsubscribe(onRouted),
  };
}
