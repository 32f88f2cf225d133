/** What the page costs the agent with 4,000 attachments, and how smoothly a browser scrolls through them. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startChromium } from '../../rig/chromium.ts';
import type { Bench } from '../bench.ts';
import { type Row, valueRow } from '../report.ts';
import { median, p99 } from '../statistics.ts';

const ATTACHMENTS = 4000;
const CLIENTS = 10;
const SCROLL_MS = 4000;
/** Of a frame at 60 Hz there are 16.7 ms. */
const FRAME_MS = 20;

export async function pageCase({ workspace, options }: Bench): Promise<readonly Row[]> {
  const dir = mkdtempSync(join(workspace.dir, 'page-'));
  const server = fork(new URL('../page-server.ts', import.meta.url), [dir, `${ATTACHMENTS}`], {
    // As the agent's, see src/cli/memory.ts; and to be told to collect.
    execArgv: ['--semi-space-growth-factor=1', '--expose-gc'],
  });
  try {
    await once(server, 'message');
    const url = String(await ask(server, 'url'));
    await sleep(1000);
    await ask(server, 'collect');
    const nobody = residentMiB(server);

    // Of the processor, not of the clock: what else runs here is not its cost.
    const began = Number(await ask(server, 'cpu'));
    const first = await look(url);
    await sleep(1500);
    const one = Number(await ask(server, 'cpu'));
    const others = await Promise.all(Array.from({ length: CLIENTS - 1 }, () => look(url)));
    await sleep(1500);
    const all = Number(await ask(server, 'cpu'));
    const changes: number[] = [];
    for (let i = 0; i < (options.quick ? 10 : options.rounds); i++) {
      await ask(server, 'change');
      // Gathered for a tenth of a second, and then not before ten times what the last one took.
      await sleep(400);
      changes.push(await ticks(server));
    }
    await ask(server, 'collect');
    const watched = residentMiB(server);
    for (const client of [first, ...others]) client.destroy();

    const { frames, longTasks } = await scroll(`${url}/page/`);
    const at = (what: string) => ({ case: `page, ${ATTACHMENTS} attachments: ${what}` });
    return [
      valueRow(at('the first who looks'), one - began, 'ms of CPU'),
      valueRow(at('each further one'), (all - one) / others.length, 'ms of CPU'),
      valueRow(
        at('a change of one'),
        median(changes),
        'ms',
        { text: '<= 5 ms', met: median(changes) <= 5 },
        changes.length,
      ),
      valueRow(at(`memory while ${CLIENTS} look`), watched - nobody, 'MiB'),
      valueRow(
        at('a frame while scrolling'),
        median(frames),
        'ms',
        { text: `<= ${FRAME_MS} ms`, met: median(frames) <= FRAME_MS },
        frames.length,
      ),
      valueRow(at('a frame while scrolling, p99'), p99(frames), 'ms', undefined, frames.length),
      valueRow(at('tasks above 50 ms while scrolling'), longTasks, 'tasks'),
    ];
  } finally {
    server.disconnect();
    await once(server, 'exit');
  }
}

/** Milliseconds of the last look at attachments. */
async function ticks(server: ChildProcess): Promise<number> {
  const answer = await ask(server, 'ticks');
  const found =
    typeof answer === 'object' && answer !== null && 'attachments' in answer ? answer.attachments : undefined;
  return Number(found);
}

async function ask(server: ChildProcess, what: string): Promise<unknown> {
  server.send(what);
  const [answer] = await once(server, 'message');
  return answer;
}

/** One who looks, and reads all that he is told. */
async function look(url: string) {
  const outgoing = request(`${url}/page/events`, { agent: false });
  outgoing.on('error', () => undefined).end();
  const [incoming] = await once(outgoing, 'response');
  incoming.on('error', () => undefined).resume();
  return outgoing;
}

function residentMiB({ pid }: ChildProcess): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) / 1024;
}

/** Up and down at 3,000 pixels a second, as a wheel does. */
async function scroll(url: string): Promise<{ readonly frames: readonly number[]; readonly longTasks: number }> {
  await using browser = await startChromium();
  await using page = await browser.open(url);
  await page.until(`document.querySelector('#view-attachments .vt-body .vt-row')`);
  await sleep(1000);
  return await page.evaluate(`new Promise(done => {
    const body = document.querySelector('#view-attachments .vt-body');
    const frames = [];
    let longTasks = 0;
    new PerformanceObserver(list => { longTasks += list.getEntries().length; }).observe({ type: 'longtask' });
    const began = performance.now();
    let last = began;
    const frame = now => {
      if (now > last) frames.push(now - last);
      const part = (now - began) / ${SCROLL_MS};
      body.scrollTop = part < 0.5 ? part * ${SCROLL_MS} * 3 : (1 - part) * ${SCROLL_MS} * 3;
      last = now;
      if (part < 1) requestAnimationFrame(frame);
      else done({ frames, longTasks });
    };
    requestAnimationFrame(frame);
  })`);
}
