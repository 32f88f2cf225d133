/** `GET /healthz`: is this process alive; `GET /readyz`: can it do its work, and if not, what is missing. 200 or 503, and JSON. */
import type { ServerResponse } from 'node:http';
import type { Route } from '../http/listener.ts';
import type { Health } from './health.ts';

export function healthRoutes(health: Health): readonly Route[] {
  return [
    {
      method: 'GET',
      path: '/healthz',
      handle(_request, response) {
        const why = health.alive();
        const facts = { alive: why === undefined, pid: process.pid, uptime_s: Math.round(process.uptime()) };
        send(response, facts.alive, why === undefined ? facts : { ...facts, why });
      },
    },
    {
      method: 'GET',
      path: '/readyz',
      async handle(_request, response) {
        const readiness = await health.ready();
        send(response, readiness.ready, readiness);
      },
    },
  ];
}

function send(response: ServerResponse, ok: boolean, value: object): void {
  response.writeHead(ok ? 200 : 503, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  response.end(`${JSON.stringify(value)}\n`);
}
