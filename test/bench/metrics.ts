/**
 * What being watched costs: `node test/bench/metrics.ts [attachments]`. How long a scrape takes with so many attachments (500 unless told), what
 * memory the agent has with and without its port for monitors, and how long a spawn takes while its steps are counted and while they are not, in
 * turns in one process.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { socketPath } from '../../src/cli/engine-client.ts';
import type { Command } from '../../src/engine/model.ts';
import { callAgent } from '../../src/http/agent-client.ts';
import { newMetrics } from '../../src/metrics/client.ts';
import { countRequests } from '../../src/metrics/requests.ts';
import { countEngine } from '../../src/metrics/steps.ts';
import { type Agent, makeWorld, type World } from '../e2e/world.ts';
import { freePort } from '../rig/ports.ts';

const ATTACHMENTS = Number(process.argv[2] ?? 500);
const SCRAPES = 40;
const ROUNDS = 300;
/** After a burst the agent gives memory back; then it is at rest. */
const QUIET_MS = 6000;
const never = new AbortController().signal;
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
const spawnOf = (ref: string): Command => ({ action: 'spawn', instance: { ref }, template: 'web' });
const destroyOf = (ref: string): Command => ({ action: 'destroy', instance: { ref }, lazy: false });

await using world = await makeWorld();
await world.addTemplate('web', { files: 20 });
const address = `127.0.0.1:${await freePort()}`;
const config = (listen: string | null) => JSON.stringify({ id_range_size: 4096, spares: 0, http: { listen } });
const names = Array.from({ length: ATTACHMENTS }, (_, n) => `m${n}`);

await compare();
await memory(world, null, async () => await each(names, spawnOf));
const off = await memory(world, null, async () => undefined);
const on = await memory(world, address, async () => {
  const first = await scrape();
  const times: number[] = [];
  for (let n = 0; n < SCRAPES; n++) times.push((await scrape()).ms);
  console.log(
    `scrape with ${ATTACHMENTS} attachments: median ${median(times).toFixed(1)} ms, slowest ${Math.max(...times).toFixed(1)} ms`,
  );
  console.log(
    `  first ${first.ms.toFixed(1)} ms (asks the runtime for ids), ${first.lines} lines, ${first.bytes} bytes`,
  );
});
console.log(`memory at rest: off ${off.toFixed(1)} MiB, on ${on.toFixed(1)} MiB after ${SCRAPES + 1} scrapes`);
{
  await using agent = await world.agent(config(null));
  void agent.pid;
  await each(names, destroyOf);
}

async function each(refs: readonly string[], command: (ref: string) => Command): Promise<void> {
  const waiting = [...refs];
  const work = async () => {
    for (let ref = waiting.shift(); ref !== undefined; ref = waiting.shift())
      await callAgent(socketPath(world.runDir), { command: 'execute', body: command(ref) });
  };
  await Promise.all(Array.from({ length: 8 }, work));
}

/** Of an agent that has done this, at rest, in MiB: what is its own (Pss, with the share of what it shares). */
async function memory(on: World, listen: string | null, work: () => Promise<void>): Promise<number> {
  await using agent: Agent = await on.agent(config(listen));
  await work();
  await sleep(QUIET_MS);
  const [, kib] = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${agent.pid}/smaps_rollup`, 'utf8')) ?? [];
  return Number(kib) / 1024;
}

async function scrape(): Promise<{ readonly ms: number; readonly lines: number; readonly bytes: number }> {
  const started = performance.now();
  const text = await (await fetch(`http://${address}/metrics`)).text();
  return { ms: performance.now() - started, lines: text.split('\n').length, bytes: text.length };
}

async function compare(): Promise<void> {
  await using host = await world.engine();
  const metrics = newMetrics();
  const took = { on: [] as number[], off: [] as number[] };
  for (let round = 0; round < ROUNDS; round++)
    for (const way of round % 2 === 0 ? (['on', 'off'] as const) : (['off', 'on'] as const)) {
      using _engine = way === 'on' ? countEngine(fresh(metrics)) : undefined;
      using _requests = way === 'on' ? countRequests(metrics) : undefined;
      const started = performance.now();
      await host.engine.execute(spawnOf('compared'), never);
      took[way].push(performance.now() - started);
      await host.engine.execute(destroyOf('compared'), never);
    }
  const apart = median(took.on.map((ms, n) => ms - (took.off[n] ?? ms)));
  const [onMs, offMs] = [median(took.on), median(took.off)];
  console.log(
    `spawn, ${ROUNDS} each in turns: off ${offMs.toFixed(2)} ms, on ${onMs.toFixed(2)} ms, ratio ${(onMs / offMs).toFixed(3)}; median of the differences of neighbours ${apart.toFixed(2)} ms`,
  );
}

function fresh(metrics: ReturnType<typeof newMetrics>): typeof metrics {
  metrics.registry.clear();
  return metrics;
}
