/** Many rounds of spawn and destroy by one agent: memory, descriptors, mounts and loop devices stay as they are. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
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

type Figures = { readonly mib: number; readonly descriptors: number; readonly mounts: number; readonly loops: number };

export async function soakCase(bench: Bench): Promise<readonly Row[]> {
  const { workspace, pool, options } = bench;
  const lxd = await bench.lxd();
  const { configFile, runDir } = writeConfig(workspace, pool, 'soak', { lxdSocket: lxd.socketPath });
  const { name: template } = await pool.template(FILES, 'ext4');
  await using agent = await Agent.start(configFile, runDir, { bus: false });
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
  const before = await figures(agent);
  const ms = await clocked(() => rounds(settled, options.cycles));
  const after = await figures(agent);
  const name = (what: string) => ({ case: `soak of ${options.cycles}: ${what}` });
  const count = options.cycles - settled;
  const more = (what: keyof Figures, unit: string, atMost: number): Row => {
    const change = after[what] - before[what];
    const goal = { text: `<= +${atMost}${unit === '' ? '' : ` ${unit}`}`, met: change <= atMost };
    return valueRow(name(what === 'mib' ? 'memory' : what), change, unit, goal, count);
  };
  return [
    more('mib', 'MiB', MIB_MORE_AT_MOST),
    more('descriptors', '', 0),
    more('mounts', '', 0),
    more('loops', '', 0),
    valueRow(name('rate'), (count / ms) * 1000, '/s', undefined, count),
  ];
}

async function figures(agent: Agent): Promise<Figures> {
  await sleep(2000); // connections that idle close, timers end
  return { mib: agent.residentMiB, descriptors: agent.descriptors, mounts: mounts(), loops: loops() };
}

const mounts = (): number => readFileSync('/proc/self/mountinfo', 'utf8').split('\n').length - 1;

/** Loop devices that stand for a file. */
function loops(): number {
  return readdirSync('/sys/block').filter(
    name => name.startsWith('loop') && readdirSync(`/sys/block/${name}`).includes('loop'),
  ).length;
}
