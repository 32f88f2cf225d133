/**
 * `node test/rig/run.ts PATTERN...`: the tests of these files, as many files at a time as there are processors (`node --test` leaves one
 * free, which of two is half), and at the end how long the longest files took. Each file has a broker, a runtime, a pool and a directory of its own,
 * and compares with the host as it was only what belongs to those.
 */
import { availableParallelism } from 'node:os';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';
import { slowFiles } from './slow-files.ts';

// Each file, and each command and agent that it starts, is a process: more than half of what its start costs is to take the types out of the
// sources and to compile them. Node keeps what came of that, by the hash of each source.
process.env['NODE_COMPILE_CACHE'] ??= fileURLToPath(new URL('../../node_modules/.cache/node', import.meta.url));

const events = run({ globPatterns: process.argv.slice(2), concurrency: Math.max(2, availableParallelism()) });
events.once('test:fail', () => {
  process.exitCode = 1;
});
events.compose(new spec()).pipe(process.stdout);
events.compose(slowFiles).pipe(process.stdout);
