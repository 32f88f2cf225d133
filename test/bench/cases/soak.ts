/** Many rounds of spawn and destroy by one agent: memory, descriptors, mounts and loop devices stay as they are. */
import { setTimeout as sleep } from 'node:timers/promises';
import { hostState } from '../../rig/host.ts';
import { Agent } from '../agent.ts';
import { type Bench, clocked } from '../bench.ts';
import { writeConfig } from '../host.ts';
import { type Row, valueRow } from '../report.ts';
import { inBatches } from './idle.ts';

const FILES = 1000;
const LANES = 4;
/** Of the rounds: what was loaded and what the collector lets memory grow to has settled by then. */
const SETTLED_AFTER = 0.25;
/** V8 breathes by some MiB; a leak of 1 KiB a round would be 15 MiB over 15,000. */
const MIB_MORE_AT_MOST = 10;
/** Connections that idle are closed after five seconds. */
const SETTLE_MS = 7000;

type Figures = { readonly mib: number; readonly descriptors: number; readonly mounts: number; readonly loops: number };

export async function soakCase(bench: Bench): Promise<readonly Row[]> {
  const { workspace, pool, options } = bench;
  const lxd = await bench.lxd();
  const at = writeConfig(workspace, pool, 'soak', { lxdSocket: lxd.socketPath });
  const { name: template } = await pool.template(FILES, 'ext4');
  await using agent = await Agent.start(workspace, at, { bus: false });
  const rounds = async (from: number, to: number) => {
    const numbers = Array.from({ length: to - from }, (_, i) => from + i);
    await inBatches(numbers, LANES, async n => {
      workspace.signal.throwIfAborted();
      if (n % 1000 === 0) workspace.log(`soak: ${n} rounds, ${agent.residentMiB.toFixed(1)} MiB`);
      const instance = { ref: `soak-${n}` };
      await agent.execute({ action: 'spawn', instance, template });
      await agent.execute({ action: 'destroy', instance, lazy: false });
    });
  };
  const settled = Math.ceil(options.cycles * SETTLED_AFTER);
  await rounds(0, settled);
  const before = await figures(agent, workspace.dir);
  const ms = await clocked(() => rounds(settled, options.cycles));
  const after = await figures(agent, workspace.dir);
  const name = (what: string) => ({ case: `soak of ${options.cycles}: ${what}` });
  const count = options.cycles - settled;
  const more = (what: keyof Figures, unit: string, atMost: number): Row => {
    const change = after[what] - before[what];
    const goal = { text: `<= +${atMost}${unit === '' ? '' : ` ${unit}`}`, met: change <= atMost };
    return valueRow(name(what === 'mib' ? 'memory' : what), change, unit, goal, count);
  };
  return [
    more('mib', 'MiB', MIB_MORE_AT_MOST),
    // Connections to the runtime that are kept open, one a request at once at most.
    more('descriptors', '', LANES),
    more('mounts', '', 0),
    more('loops', '', 0),
    valueRow(name('rate'), (count / ms) * 1000, '/s', undefined, count),
  ];
}

/** Mounts in every mount namespace and loop devices, of our own files: others may work on this machine. */
async function figures(agent: Agent, directory: string): Promise<Figures> {
  await sleep(SETTLE_MS);
  const { mounts, loops } = hostState(directory);
  return { mib: agent.residentMiB, descriptors: agent.descriptors, mounts: mounts.length, loops: loops.length };
}
