import type { Command } from 'commander';
import type { PoolStatus } from '../storage/pool-status.ts';
import type { DefineCommand, GlobalOptions } from './command.ts';
import { bytes, print } from './output.ts';
import { planTable } from './plan-table.ts';
import { stopOnSignals } from './signals.ts';

type Changing = GlobalOptions & { readonly dryRun?: boolean; readonly size: string };

export const define: DefineCommand = program => {
  const pool = program.command('pool').summary('set up and grow the place where templates and snapshots lie');
  pool.description(
    'Snapshots need a file system that can share extents: XFS or btrfs. Where the state directory is on neither, a pool is one XFS in ' +
      'a sparse file (pool.img), mounted at pool_dir for root alone, and mounted again by whatever uses it after a reboot.',
  );
  defineCreate(pool);
  defineGrow(pool);
  defineStatus(pool);
  defineRemove(pool);
};

function defineCreate(pool: Command): void {
  pool
    .command('create')
    .summary('make a pool in a file')
    .requiredOption('--size <size>', 'at least 512M; the file is sparse and takes what is written')
    .option('--dry-run', 'print what would be made, and make nothing')
    .addHelpText('after', '\nExample:\n  shiftvol pool create --size 20G')
    .action(async (_options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Changing>();
      const { paths, sizeBytes } = await read(options);
      const { createPool, planPool } = await import('../storage/pool.ts');
      planPool(paths, sizeBytes);
      if (options.dryRun === true) return await printPlan(options, 'create', sizeBytes);
      using stop = stopOnSignals();
      print(options, await createPool(paths, { sizeBytes, signal: stop.signal }), statusText);
    });
}

function defineGrow(pool: Command): void {
  pool
    .command('grow')
    .summary('make the pool larger while it is in use')
    .requiredOption('--size <size>', 'its new size')
    .option('--dry-run', 'print what would be done, and do nothing')
    .addHelpText('after', '\nExample:\n  shiftvol pool grow --size 40G')
    .action(async (_options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Changing>();
      const { paths, sizeBytes } = await read(options);
      const { growPool, planGrowth } = await import('../storage/pool.ts');
      planGrowth(paths, sizeBytes);
      if (options.dryRun === true) return await printPlan(options, 'grow', sizeBytes);
      using stop = stopOnSignals();
      print(options, await growPool(paths, { sizeBytes, signal: stop.signal }), statusText);
    });
}

function defineStatus(pool: Command): void {
  pool
    .command('status')
    .summary('show where the pool is and what is in it')
    .addHelpText('after', '\nExample:\n  shiftvol pool status --json')
    .action(async (_options: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const { poolStatus } = await import('../storage/pool-status.ts');
      print(options, poolStatus(await poolPaths(options)), statusText);
    });
}

function defineRemove(pool: Command): void {
  pool
    .command('remove')
    .summary('unmount and delete a pool that holds no template and no snapshot')
    .option('--dry-run', 'say what would be removed, and do nothing')
    .addHelpText('after', '\nExample:\n  shiftvol pool remove')
    .action(async (_options: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions & { readonly dryRun?: boolean }>();
      const paths = await poolPaths(options);
      const { planPoolRemoval, removePool } = await import('../storage/pool.ts');
      const { image } = await planPoolRemoval(paths);
      if (options.dryRun === true) {
        const { poolRemoval } = await import('./storage-plans.ts');
        const steps = poolRemoval({ image, poolDir: paths.poolDir });
        print(options, { image, poolDir: paths.poolDir, removed: false, dryRun: true, steps }, p => planTable(p.steps));
        return;
      }
      await removePool(paths);
      print(options, { image, poolDir: paths.poolDir, removed: true, dryRun: false }, r => `removed ${r.image}`);
    });
}

async function read(options: Changing) {
  const { parseSize } = await import('../storage/size.ts');
  return { sizeBytes: parseSize(options.size, '--size'), paths: await poolPaths(options) };
}

async function poolPaths(options: GlobalOptions) {
  const { loadConfig } = await import('../config/load.ts');
  const { stateDir, poolDir } = loadConfig(options);
  return { stateDir, poolDir };
}

async function printPlan(options: Changing, action: 'create' | 'grow', sizeBytes: number): Promise<void> {
  const { poolImage } = await import('../storage/pool-status.ts');
  const { poolCreation, poolGrowth } = await import('./storage-plans.ts');
  const { stateDir, poolDir } = await poolPaths(options);
  const pool = { image: poolImage(stateDir), sizeBytes, poolDir };
  const steps = action === 'create' ? poolCreation(pool) : poolGrowth(pool);
  print(options, { dryRun: true, action, ...pool, steps }, p => planTable(p.steps));
}

function statusText(s: PoolStatus): string {
  const where =
    s.image === undefined
      ? 'the host’s own file system'
      : `${s.image.path}, ${bytes(s.image.sizeBytes)}, of it ${bytes(s.image.allocatedBytes)} taken on the host`;
  const rows: (readonly [string, string])[] = [
    ['pool', `${s.poolDir}${s.mounted ? '' : ' (not mounted; whatever uses it mounts it)'}`],
    ['on', where],
    [
      'snapshots',
      s.reflink
        ? 'work here'
        : s.mounted
          ? 'do not work here: this file system cannot share extents'
          : 'not known before it is mounted',
    ],
  ];
  if (s.mounted)
    rows.push(
      ['room', `${bytes(s.freeBytes)} of ${bytes(s.sizeBytes)} free`],
      ['holds', `${count(s.templates, 'template')}, ${count(s.snapshots, 'snapshot')}, ${s.saved} saved`],
    );
  if (s.image !== undefined && s.image.sizeBytes - s.image.allocatedBytes > s.image.hostFreeBytes)
    rows.push([
      'note',
      `the host has only ${bytes(s.image.hostFreeBytes)} left for it: writes fail when that is used up`,
    ]);
  return rows.map(([key, value]) => `${key.padEnd(10)} ${value}`).join('\n');
}

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;
