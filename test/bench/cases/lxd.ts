/**
 * Attaching to a running container, beside LXD's own call alone: adding a disk device (shift=true) whose file system is cloned and
 * mounted already. LXD is asked over its API, as we ask it; `lxc config device add` does the same and takes its own start on top.
 *
 * LXD 5.0 tries the kernel with a user namespace without maps, which newer kernels refuse, and then says that it cannot shift. There
 * the same call is measured without it: the owners inside are wrong then, the time is what LXD takes to mount it in.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Template } from '../../../src/engine/ports.ts';
import type { Lxd } from '../../rig/lxd.ts';
import { LxdApiError } from '../../rig/lxd-api.ts';
import { run } from '../../rig/pool.ts';
import { type Bench, clocked } from '../bench.ts';
import { type BenchHost, startHost } from '../host.ts';
import { type Row, ratioRow, sumRow } from '../report.ts';
import { median, round as rounded } from '../statistics.ts';

const OVER_MS = 15;
const NAME = 'lxdbench';
const WARM_UP = 2;

type Peer = { readonly lxd: Lxd; readonly shift: boolean };
type Times = {
  readonly ours: number[];
  readonly ready: number[];
  readonly away: number[];
  readonly api: number[];
  readonly client: number[];
};

export async function lxdCase(bench: Bench): Promise<readonly Row[]> {
  const { workspace, pool, options } = bench;
  const lxd = await bench.lxd();
  await lxd.launch(NAME);
  await using host = await startHost(workspace, pool, 'lxd', { lxdSocket: lxd.socketPath });
  const more = { spares: 1 };
  await using withSpares = await startHost(workspace, pool, 'lxd-spare', { lxdSocket: lxd.socketPath, more });
  const shift = await canShift(lxd, workspace.dir);
  const how = shift ? 'shift=true' : '(it cannot shift here)';
  const rows: Row[] = [];
  for (const fs of options.fs)
    for (const files of options.files) {
      const template = await pool.template(files, fs);
      const times = await measure(bench, { lxd, shift }, host, withSpares, template);
      const where = { case: 'attach to LXD', files, fs };
      const client = { ours: times.ours, peer: times.client, peerName: `lxc config device add ${how}` };
      const api = { peer: times.api, peerName: `LXD API: add disk ${how}` };
      rows.push(
        sumRow(where, { ours: times.ours, ...api }, OVER_MS),
        sumRow({ ...where, case: 'attach to LXD, one ready' }, { ours: times.ready, ...api }, OVER_MS),
        ratioRow(where, client),
      );
    }
  await lxd.stop(NAME);
  await lxd.delete(NAME);
  return rows;
}

async function measure(
  bench: Bench,
  peer: Peer,
  host: BenchHost,
  withSpares: BenchHost,
  template: Template,
): Promise<Times> {
  const { workspace, options } = bench;
  const mountPoint = join(workspace.dir, 'lxd-peer');
  const image = join(bench.pool.poolDir, 'lxd-peer.img');
  mkdirSync(mountPoint);
  run('cp', '--reflink=always', '--no-preserve=mode', template.path, image);
  run('mount', '-t', template.fsType, '-o', template.fsType === 'xfs' ? 'loop,nouuid' : 'loop', image, mountPoint);
  const times: Times = { ours: [], ready: [], away: [], api: [], client: [] };
  const steps = new Map<string, number[]>();
  const stepsReady = new Map<string, number[]>();
  try {
    for (let round = 0; round < options.rounds + WARM_UP; round++) {
      workspace.signal.throwIfAborted();
      const ours = await ourRound(host, template, workspace.signal, steps);
      await withSpares.spares?.ready();
      const ready = await ourRound(withSpares, template, workspace.signal, stepsReady);
      const api = await peerByApi(peer, mountPoint);
      const client = await peerByClient(peer, mountPoint);
      if (round < WARM_UP) continue;
      times.ours.push(ours.attach);
      times.ready.push(ready.attach);
      times.away.push(ours.destroy);
      times.api.push(api);
      times.client.push(client);
    }
  } finally {
    run('umount', mountPoint);
    rmdirSync(mountPoint);
    unlinkSync(image);
  }
  if (options.phases) {
    const parts = (of: typeof steps) => [...of].map(([step, ms]) => `${step} ${rounded(median(ms))}`).join(', ');
    workspace.log(`attach to LXD ${template.name}: ${parts(steps)}; destroy ${rounded(median(times.away))} ms`);
    workspace.log(`attach to LXD ${template.name}, one ready: ${parts(stepsReady)}`);
  }
  return times;
}

async function ourRound(
  { engine }: BenchHost,
  template: Template,
  signal: AbortSignal,
  steps: Map<string, number[]>,
): Promise<{ attach: number; destroy: number }> {
  const instance = { ref: NAME };
  const target = '/mnt/ours';
  const source = { kind: 'template', template: template.name } as const;
  const attach = await clocked(async () => {
    const done = await engine.execute({ action: 'attach', instance, target, source, readOnly: false }, signal);
    for (const { step, ms } of done.steps) steps.set(step, [...(steps.get(step) ?? []), ms]);
  });
  const destroy = await clocked(() => engine.execute({ action: 'destroy', instance, target, lazy: false }, signal));
  return { attach, destroy };
}

async function canShift(lxd: Lxd, directory: string): Promise<boolean> {
  try {
    await peerByApi({ lxd, shift: true }, directory);
    return true;
  } catch (error) {
    if (error instanceof LxdApiError && error.message.includes('idmapping')) return false;
    throw error;
  }
}

async function peerByApi({ lxd, shift }: Peer, source: string): Promise<number> {
  const path = `/1.0/instances/${NAME}`;
  const { devices, description, config, profiles, ephemeral, architecture } = await lxd.get(NAME);
  const device = { type: 'disk', source, path: '/mnt/peer', ...(shift && { shift: 'true' }) };
  const ms = await clocked(() => lxd.api.patch(path, { description, devices: { peer: device } }));
  await lxd.api.put(path, { description, config, profiles, ephemeral, architecture, devices });
  return ms;
}

async function peerByClient({ lxd, shift }: Peer, source: string): Promise<number> {
  const lxc = (...args: readonly string[]): Promise<void> =>
    new Promise((resolve, reject) => {
      const child = spawn('lxc', args, { env: lxd.env, stdio: 'ignore' });
      child.once('error', reject).once('close', status => {
        if (status === 0) resolve();
        else reject(new Error(`lxc ${args.join(' ')}: status ${status}`));
      });
    });
  const device = [`source=${source}`, 'path=/mnt/peer', ...(shift ? ['shift=true'] : [])];
  const ms = await clocked(() => lxc('config', 'device', 'add', NAME, 'peer', 'disk', ...device));
  await lxc('config', 'device', 'remove', NAME, 'peer');
  return ms;
}
