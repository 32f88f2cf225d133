/**
 * Draws what the documents show, and writes the tables of what was measured: all of it from the newest result of the bench in
 * test/bench/results. `npm run pictures`; a test says when it has not been run.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Report } from '../test/bench/report.ts';
import { between, costTable, fullTable } from './bench-tables.ts';
import { costPicture } from './pictures/cost.ts';
import { idsPicture } from './pictures/ids.ts';
import { wayPicture } from './pictures/way.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const RESULTS = 'test/bench/results';

/** Path in the checkout -> its contents as they have to be. */
export function pictures(): ReadonlyMap<string, string> {
  const report = newestReport();
  const tables = { 'README.md': costTable(report), 'deploy/BENCH.md': fullTable(report) };
  return new Map([
    ['deploy/pictures/way.svg', wayPicture()],
    ['deploy/pictures/ids.svg', idsPicture()],
    ['deploy/pictures/cost.svg', costPicture(report)],
    ...Object.entries(tables).map(
      ([path, table]) => [path, between(readFileSync(join(ROOT, path), 'utf8'), table)] as const,
    ),
  ]);
}

/** Its name is the day it was measured. */
function newestReport(): Report {
  const [newest] = readdirSync(join(ROOT, RESULTS))
    .filter(name => name.endsWith('.json'))
    .toSorted()
    .reverse();
  if (newest === undefined) throw new Error(`Cannot draw: ${RESULTS} has no result of the bench`);
  return JSON.parse(readFileSync(join(ROOT, RESULTS, newest), 'utf8'));
}

if (import.meta.main)
  for (const [path, text] of pictures()) {
    mkdirSync(dirname(join(ROOT, path)), { recursive: true });
    writeFileSync(join(ROOT, path), text);
  }
