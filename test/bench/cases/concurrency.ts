/** 64 attaches to 16 running containers: one at a time, then all at once, in turns. */
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Lxd } from '../../rig/lxd.ts';
import { type Bench, clocked } from '../bench.ts';
import { type BenchHost, startHost } from '../host.ts';
import { type Row, ratioRow } from '../report.ts';
import { median, round as rounded } from '../statistics.ts';

const CONTAINERS = 16;
const TARGETS = ['/mnt/a', '/mnt/b', '/mnt/c', '/mnt/d'] as const;
/** Twice the throughput is half the time. */
const AT_MOST = 0.5;
const FILES = 1000;

type Job = { readonly ref: string; readonly target: string };

export async function concurrencyCase(bench: Bench): Promise<readonly Row[]> {
  const { workspace, pool, options } = bench;
  const lxd = await bench.lxd();
  const names = Array.from({ length: CONTAINERS }, (_, i) => `many${i}`);
  for (const name of names) await lxd.launch(name);
  await using host = await startHost(workspace, pool, 'concurrency', { lxdSocket: lxd.socketPath, parallel: 16 });
  const jobs = TARGETS.flatMap(target => names.map(ref => ({ ref, target })));
  const rows: Row[] = [];
  for (const fs of options.fs) {
    const { name: template } = await pool.template(FILES, fs);
    const pairs = { ours: [] as number[], peer: [] as number[], peerName: 'ours, one at a time' };
    const steps = { oneByOne: new Map<string, number[]>(), atOnce: new Map<string, number[]>() };
    const attach = (job: Job, into: Map<string, number[]>) => attachOne(bench, host, template, job, into);
    for (let round = 0; round < Math.max(3, Math.ceil(options.rounds / 10)); round++) {
      pairs.peer.push(
        await clocked(async () => {
          for (const job of jobs) await attach(job, steps.oneByOne);
        }),
      );
      await destroyAll(bench, host, names);
      pairs.ours.push(await clocked(() => Promise.all(jobs.map(job => attach(job, steps.atOnce)))));
      await destroyAll(bench, host, names);
    }
    rows.push(ratioRow({ case: '64 attaches at once', files: FILES, fs }, pairs, AT_MOST));
    if (options.phases)
      for (const [how, each] of Object.entries(steps))
        workspace.log(`${fs} ${how}: ${[...each].map(([s, ms]) => `${s} ${rounded(median(ms))}`).join(', ')}`);
  }
  rows.push(await lxdAlone(bench, lxd, names));
  await Promise.all(names.map(name => lxd.stop(name).then(() => lxd.delete(name))));
  return rows;
}

/** The limit: the same number of devices, plain directories, added by LXD's API with nothing of ours. No goal: it is not ours to meet. */
async function lxdAlone({ workspace, options }: Bench, lxd: Lxd, names: readonly string[]): Promise<Row> {
  const source = join(workspace.dir, 'lxd-alone');
  mkdirSync(source);
  const add = async (name: string, target: string) => {
    workspace.signal.throwIfAborted();
    const device = { type: 'disk', source, path: target };
    await lxd.api.patch(`/1.0/instances/${name}`, { devices: { [target.replaceAll('/', '-')]: device } });
  };
  const clear = async () => {
    for (const name of names) {
      const { config, profiles, architecture } = await lxd.get(name);
      await lxd.api.put(`/1.0/instances/${name}`, { config, profiles, architecture, devices: {} });
    }
  };
  const pairs = { ours: [] as number[], peer: [] as number[], peerName: 'LXD alone, one at a time' };
  for (let round = 0; round < Math.max(3, Math.ceil(options.rounds / 10)); round++) {
    pairs.peer.push(
      await clocked(async () => {
        for (const target of TARGETS) for (const name of names) await add(name, target);
      }),
    );
    await clear();
    // In order within one container: LXD 5.0 fails changes of one instance at the same time.
    const inOrder = async (name: string) => {
      for (const target of TARGETS) await add(name, target);
    };
    pairs.ours.push(await clocked(() => Promise.all(names.map(inOrder))));
    await clear();
  }
  rmdirSync(source);
  return ratioRow({ case: '64 devices at once, LXD alone' }, pairs);
}

async function attachOne(
  { workspace }: Bench,
  { engine }: BenchHost,
  template: string,
  { ref, target }: Job,
  into: Map<string, number[]>,
): Promise<void> {
  workspace.signal.throwIfAborted();
  const source = { kind: 'template', template } as const;
  const { steps } = await engine.execute(
    { action: 'attach', instance: { ref }, target, source, readOnly: false },
    workspace.signal,
  );
  for (const { step, ms } of steps) into.set(step, [...(into.get(step) ?? []), ms]);
}

async function destroyAll({ workspace }: Bench, { engine }: BenchHost, names: readonly string[]): Promise<void> {
  const one = (ref: string) => engine.execute({ action: 'destroy', instance: { ref }, lazy: false }, workspace.signal);
  await Promise.all(names.map(one));
}
