import { type Lxd, startLxd } from '../rig/lxd.ts';
import type { Options } from './options.ts';
import type { Pool } from './pool.ts';
import type { Row } from './report.ts';
import type { Workspace } from './workspace.ts';

/** What every case is given. */
export type Bench = {
  readonly options: Options;
  readonly workspace: Workspace;
  readonly pool: Pool;
  /** A private LXD, started when it is first asked for. */
  lxd(): Promise<Lxd>;
};
export type Case = (bench: Bench) => Promise<readonly Row[]>;

export function makeBench(options: Options, workspace: Workspace, pool: Pool): Bench {
  let lxd: Promise<Lxd> | undefined;
  const start = async (): Promise<Lxd> => workspace.use(await startLxd());
  return {
    options,
    workspace,
    pool,
    lxd: () => {
      lxd ??= start();
      return lxd;
    },
  };
}

/** How long it takes, in milliseconds. */
export async function clocked(work: () => Promise<unknown> | unknown): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}
