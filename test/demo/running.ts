/** Demos that run, by a file each: so that `--end` finds those that were kept, and what one that was killed left. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { remains, sweep } from './sweep.ts';

const PLACE = '/run/shiftvol-demo';
const END_MS = 90_000;

/** Notes this process and its directory; gone when disposed of. */
export function noteRunning(work: string): Disposable {
  mkdirSync(PLACE, { recursive: true, mode: 0o700 });
  const file = join(PLACE, `${process.pid}`);
  writeFileSync(file, work, { mode: 0o600 });
  return { [Symbol.dispose]: () => rmSync(file, { force: true }) };
}

/** Ends every demo that runs, and sweeps up after those that were killed. */
export async function endAll(say: (text: string) => void): Promise<void> {
  const pids = existsSync(PLACE) ? readdirSync(PLACE) : [];
  if (pids.length === 0) say('no demo is running');
  for (const pid of pids) await endOne(Number(pid), say);
}

async function endOne(pid: number, say: (text: string) => void): Promise<void> {
  const file = join(PLACE, `${pid}`);
  const work = readFileSync(file, 'utf8');
  if (isDemo(pid)) {
    process.kill(pid, 'SIGTERM');
    for (const deadline = Date.now() + END_MS; isDemo(pid) && Date.now() < deadline; ) await sleep(100);
    if (isDemo(pid)) throw new Error(`The demo ${pid} does not end; its directory is ${work}`);
  }
  await sweep(work);
  rmSync(file, { force: true });
  const left = remains(work);
  if (left.length > 0) throw new Error(`Left over: ${left.join(', ')}`);
  say(`ended: ${work} is gone, nothing is left`);
}

/** The number may belong to somebody else by now. */
function isDemo(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('test/demo/main.ts');
  } catch {
    return false; // ended
  }
}
