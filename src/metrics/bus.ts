/** The bus, as the agent sees it. */
import type { BusStatus } from '../bus/service.ts';
import { type Metrics, setCounter } from './client.ts';

/** Without user names: only where the broker is. */
export const brokerOf = (maskedUrl: string): string =>
  maskedUrl.replace(/\?.*$/, '').replace(/(\/\/|,)[^/@,]*@/g, '$1');

/** Returns what brings them up to date. */
export function busMetrics(metrics: Metrics, status: () => BusStatus | undefined): () => void {
  const at = ['broker', 'queue'] as const;
  const subscribed = metrics.gauge('shiftvol_bus_subscribed', 'A consumer is really there: 1, else 0.', at);
  const messages = metrics.counter(
    'shiftvol_bus_messages_total',
    'Messages by what became of them. Received: all that the broker gave us, redeliveries included.',
    [...at, 'outcome'],
  );
  const ignored = metrics.counter(
    'shiftvol_bus_ignored_total',
    'Messages that are all right and do nothing here, by why.',
    [...at, 'reason'],
  );
  const working = metrics.gauge('shiftvol_bus_messages_working', 'Messages that are worked on.', at);
  const waiting = metrics.gauge(
    'shiftvol_bus_queue_messages',
    'Messages in our queue that nobody has, at the last look (each minute).',
    at,
  );
  const dead = metrics.gauge(
    'shiftvol_bus_dead_letters',
    'Dead letters of all hosts on the broker, at the last look.',
    ['broker'],
  );
  const exchanges = metrics.gauge('shiftvol_bus_exchanges', 'Exchanges by what is known of them.', ['broker', 'state']);
  const tells = metrics.gauge('shiftvol_bus_publisher_ready', 'Results can be told: 1, else 0.');
  const told = metrics.counter('shiftvol_bus_events_published_total', 'Results that the broker has confirmed.');
  const rpc = metrics.gauge('shiftvol_rpc_subscribed', 'Consumers are there on all three queues of RPC: 1, else 0.', [
    'topic',
  ]);
  const running = metrics.gauge('shiftvol_rpc_calls_running', 'Calls that are carried out.');
  const calls = metrics.counter('shiftvol_rpc_calls_total', 'Calls by what became of them.', ['outcome']);
  return () => {
    const now = status();
    if (!now) return;
    const counted: [{ broker: string; queue: string; outcome: string }, number][] = [];
    const passed: [{ broker: string; queue: string; reason: string }, number][] = [];
    exchanges.reset();
    for (const { url, queue, counters, backlog, ...listen } of now.listen) {
      const broker = brokerOf(url);
      subscribed.set({ broker, queue }, listen.subscribed ? 1 : 0);
      working.set({ broker, queue }, listen.working);
      if (backlog) {
        waiting.set({ broker, queue }, backlog.waiting);
        dead.set({ broker }, backlog.deadLetters);
      }
      for (const state of Object.values(listen.exchanges)) exchanges.inc({ broker, state });
      const { ignored: reasons, ...outcomes } = counters;
      for (const [outcome, n] of Object.entries(outcomes)) counted.push([{ broker, queue, outcome }, n]);
      for (const [reason, n] of Object.entries(reasons)) passed.push([{ broker, queue, reason }, n]);
    }
    setCounter(messages, counted);
    setCounter(ignored, passed);
    tells.set(now.publisher.ready ? 1 : 0);
    setCounter(told, [[{}, now.publisher.published]]);
    if (!now.rpc) return;
    rpc.set({ topic: now.rpc.topic }, now.rpc.subscribed ? 1 : 0);
    running.set(now.rpc.running);
    setCounter(
      calls,
      Object.entries(now.rpc.counters).map(([outcome, n]) => [{ outcome }, n]),
    );
  };
}
