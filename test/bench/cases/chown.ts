/** What is done without idmapped mounts: copy the template (shared extents), mount the copy, chown every file. Seconds, so few rounds. */
import { mkdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Template } from '../../../src/engine/ports.ts';
import { run } from '../../rig/pool.ts';
import { type Bench, clocked } from '../bench.ts';
import { ID_POOL, startHost } from '../host.ts';
import { type Row, ratioRow } from '../report.ts';
import { median } from '../statistics.ts';

/** Of 200x faster; asked for at the largest template. */
const AT_MOST = 0.005;
const ROUNDS = 3;
const ATTACHES = 5;

export async function chownCase(bench: Bench): Promise<readonly Row[]> {
  const { workspace, pool, options } = bench;
  const lxd = await bench.lxd();
  await lxd.launch('chown');
  await using host = await startHost(workspace, pool, 'chown', { lxdSocket: lxd.socketPath });
  const instance = { ref: 'chown' };
  const attach = (template: string) => {
    const source = { kind: 'template', template } as const;
    return host.engine.execute(
      { action: 'attach', instance, target: '/mnt/data', source, readOnly: false },
      workspace.signal,
    );
  };
  const rows: Row[] = [];
  for (const fs of options.fs)
    for (const files of options.files) {
      const template = await pool.template(files, fs);
      const pairs = { ours: [] as number[], peer: [] as number[], peerName: 'cp --reflink, mount, chown -R' };
      for (let round = 0; round <= ROUNDS; round++) {
        workspace.signal.throwIfAborted();
        // Milliseconds scatter more than seconds: the median of several stands beside one of the peer's.
        const ours: number[] = [];
        for (let i = 0; i < ATTACHES; i++) {
          ours.push(await clocked(() => attach(template.name)));
          await host.engine.execute(
            { action: 'destroy', instance, target: '/mnt/data', lazy: false },
            workspace.signal,
          );
        }
        if (round === 0) continue; // loads code
        pairs.ours.push(median(ours));
        pairs.peer.push(await chownRound(bench, template));
      }
      const goal = files >= 500_000 ? AT_MOST : undefined;
      rows.push(ratioRow({ case: 'attach, not chown', files, fs }, pairs, goal));
    }
  await lxd.stop('chown');
  await lxd.delete('chown');
  return rows;
}

async function chownRound({ pool, workspace }: Bench, template: Template): Promise<number> {
  const image = join(pool.poolDir, 'chown.img');
  const mountPoint = join(workspace.dir, 'chown-mount');
  mkdirSync(mountPoint);
  const options = template.fsType === 'xfs' ? 'loop,nouuid' : 'loop';
  try {
    return await clocked(() => {
      run('cp', '--reflink=always', '--no-preserve=mode', template.path, image);
      run('mount', '-t', template.fsType, '-o', options, image, mountPoint);
      run('chown', '-hR', `${ID_POOL.start}:${ID_POOL.start}`, mountPoint);
    });
  } finally {
    run('umount', mountPoint);
    rmdirSync(mountPoint);
    unlinkSync(image);
  }
}
