/** `npm run bench`: how fast shiftvol is, beside what it competes with. Needs root. See --help. */
import { type Case, makeBench } from './bench.ts';
import { busCase } from './cases/bus.ts';
import { chownCase } from './cases/chown.ts';
import { concurrencyCase } from './cases/concurrency.ts';
import { floorCase } from './cases/floor.ts';
import { idleCase } from './cases/idle.ts';
import { lxdCase } from './cases/lxd.ts';
import { migrateCase } from './cases/migrate.ts';
import { pageCase } from './cases/page.ts';
import { routeCase } from './cases/route.ts';
import { rpcCase } from './cases/rpc.ts';
import { soakCase } from './cases/soak.ts';
import { describeMachine } from './machine.ts';
import { type CaseName, HELP, type Options, parseOptions } from './options.ts';
import { makePool } from './pool.ts';
import { type Row, toJson, toTable } from './report.ts';
import { Workspace } from './workspace.ts';

const RUN = {
  floor: floorCase,
  chown: chownCase,
  lxd: lxdCase,
  bus: busCase,
  concurrency: concurrencyCase,
  idle: idleCase,
  route: routeCase,
  rpc: rpcCase,
  migrate: migrateCase,
  page: pageCase,
  soak: soakCase,
} as const satisfies Record<CaseName, Case>;

async function main(): Promise<number> {
  const options = readOptions();
  if (typeof options === 'number') return options;
  if (process.getuid?.() !== 0) {
    process.stderr.write('Cannot measure: mounting needs root\n');
    return 5;
  }
  await using workspace = new Workspace(line => process.stderr.write(`${line}\n`));
  const machine = describeMachine(workspace.dir);
  const pool = await makePool(workspace);
  const bench = makeBench(options, workspace, pool);
  const rows: Row[] = [];
  let failed = false;
  for (const name of options.cases) {
    workspace.log(`${name} ...`);
    try {
      rows.push(...(await RUN[name](bench)));
    } catch (error) {
      // What was measured before is told all the same.
      workspace.log(`${name} failed: ${error instanceof Error ? (error.stack ?? error.message) : error}`);
      failed = true;
      if (workspace.signal.aborted) break;
    }
  }
  process.stdout.write(`${(options.json ? toJson : toTable)({ machine, rows })}\n`);
  return failed ? 1 : 0;
}

function readOptions(): Options | number {
  try {
    const options = parseOptions(process.argv.slice(2));
    if (options) return options;
    process.stdout.write(`${HELP}\n`);
    return 0;
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    return 2;
  }
}

process.exitCode = await main();
