/**
 * `npm run test:openstack`: brings the cloud up, runs all of the scenario against it, and takes it away again. Needs root, 2 GB and
 * some five minutes. With words behind it only the files whose names have one of them; the thousand boots of `burst` only so: they are about
 * the broker and the agent, and need no cloud. $SHIFTVOL_CLOUD_KEEP=1 leaves the cloud running for the next time; `node test/rig/cloud/main.ts purge` ends it.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Cloud } from '../rig/cloud/cloud.ts';

const here = fileURLToPath(new URL('.', import.meta.url));
const wanted = process.argv.slice(2);
const files = readdirSync(here).filter(
  name =>
    name.endsWith('.test.ts') &&
    (wanted.length === 0 ? name !== 'burst.test.ts' : wanted.some(part => name.includes(part))),
);

// All of them share one nova-api.
process.env['SHIFTVOL_CLOUD_SOFT_DELETE'] = '1';
let status = 1;
try {
  // One after the other: they share the cloud.
  status = await run(process.execPath, [
    '--test',
    '--test-concurrency=1',
    ...files.map(name => fileURLToPath(new URL(name, import.meta.url))),
  ]);
} finally {
  if (process.env['SHIFTVOL_CLOUD_KEEP'] !== '1') await Cloud.at().purge();
}
process.exitCode = status;

function run(file: string, args: readonly string[]): Promise<number> {
  const child = spawn(file, args, { stdio: 'inherit' });
  return new Promise((resolve, reject) => {
    child.once('error', reject).once('exit', code => resolve(code ?? 1));
  });
}
