/** `GET /metrics`: in Prometheus' own text format, or as OpenMetrics where that is asked for. */
import type { Route } from '../http/listener.ts';
import type { Metrics } from './client.ts';

/** `update` brings up to date what is not counted as it happens. */
export function metricsRoute({ registry }: Metrics, update: () => Promise<void>): Route {
  // Who asks while one scrape is made gets the same; a scrape costs this host something, and should not cost it twice.
  let running: Promise<string> | undefined;
  const scrape = async () => {
    await update();
    return await registry.metrics();
  };
  return {
    method: 'GET',
    path: '/metrics',
    async handle(request, response) {
      running ??= scrape().finally(() => {
        running = undefined;
      });
      const text = await running;
      const open = wantsOpenMetrics(request.headers.accept);
      response.writeHead(200, { 'content-type': open ? OPEN : registry.contentType, 'cache-control': 'no-store' });
      response.end(open ? asOpenMetrics(text) : text);
    },
  };
}

const OPEN = 'application/openmetrics-text; version=1.0.0; charset=utf-8';

/** By the weight of each (RFC 9110, 12.5.1). Prometheus asks for OpenMetrics first; who takes anything gets plain text. */
export function wantsOpenMetrics(accept = ''): boolean {
  const parts = accept.slice(0, 1000).split(',');
  const weigh = (kind: RegExp) =>
    Math.max(
      0,
      ...parts.filter(part => kind.test(part.trim())).map(part => Number(/;\s*q=([\d.]+)/.exec(part)?.[1] ?? 1)),
    );
  const open = weigh(/^application\/openmetrics-text(?!.*version=0\.)/);
  return open > 0 && open >= weigh(/^text\/plain/);
}

/**
 * A counter's family has no "_total" there, its samples have it; no empty lines; and an end. Not by the registry, which would change the
 * counters' own names: the next plain text would be without "_total" (prom-client 15.1).
 */
export function asOpenMetrics(text: string): string {
  const counters = new Set([...text.matchAll(/^# TYPE (\S+)_total counter$/gm)].map(([, name]) => name));
  const lines = text
    .split('\n')
    .filter(line => line !== '')
    .map(line =>
      line.replace(/^(# (?:HELP|TYPE) )(\S+)_total /, (whole, head, name) =>
        counters.has(name) ? `${head}${name} ` : whole,
      ),
    );
  return `${lines.join('\n')}\n# EOF\n`;
}
