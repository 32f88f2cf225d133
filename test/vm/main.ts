/**
 * The tests that need kernel modules which most hosts of containers lack, in a machine with a stock kernel.
 * `node test/vm/main.ts [--udev] [--verbose] [NAME ...]`: NAME is a test's file without ".test.ts"; `-- COMMAND ...` runs that instead.
 */
import { readdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ensurePackages, SetupError } from '../rig/setup.ts';
import { ensureImage } from './rig/image.ts';
import { runInMachine } from './rig/machine.ts';

const HERE = new URL('.', import.meta.url).pathname;
const NODE = 'node_modules/node/bin/node';
const TIMEOUT_MS = 30 * 60_000;

const split = process.argv.indexOf('--');
const { values, positionals } = parseArgs({
  args: process.argv.slice(2, split === -1 ? undefined : split),
  options: { udev: { type: 'boolean', default: false }, verbose: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const all = readdirSync(HERE).filter(name => name.endsWith('.test.ts'));
const files = positionals.length === 0 ? all : positionals.map(name => `${name}.test.ts`);
const tests = [NODE, '--test', '--test-concurrency=1', '--test-reporter=spec', ...files.map(name => `test/vm/${name}`)];

try {
  const unknown = files.filter(name => !all.includes(name));
  if (unknown.length > 0) throw new SetupError(`Cannot find ${unknown.join(', ')}: there are ${all.join(', ')}`);
  ensurePackages('vm', { quiet: true });
  const image = await ensureImage(text => console.error(text));
  process.exitCode = await runInMachine(image, {
    command: split === -1 ? tests : process.argv.slice(split + 1),
    env: { SHIFTVOL_VM: '1', NO_COLOR: process.env['NO_COLOR'] ?? '1' },
    timeoutMs: TIMEOUT_MS,
    udev: values.udev,
    verbose: values.verbose,
  });
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
