/**
 * The tests that need kernel modules which most hosts of containers lack, in a machine with a stock kernel.
 * `node test/vm/main.ts [--udev] [--verbose] [NAME ...]`: NAME is a test's file without ".test.ts", or "power" for the power cuts;
 * `-- COMMAND ...` runs that instead.
 * One machine without udevd, which makes tools wait for nobody, and one with it for what does not work otherwise; --udev: for all.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ensurePackages, SetupError } from '../rig/setup.ts';
import { ensureImage } from './rig/image.ts';
import { runInMachine } from './rig/machine.ts';

const HERE = new URL('.', import.meta.url).pathname;
const NODE = 'node_modules/node/bin/node';
/** It takes a tenth of that where nothing else wants the processors. */
const TIMEOUT_MS = 120 * 60_000;
/** Boots machines of its own: `power/main.ts`. */
const POWER = 'power';

const split = process.argv.indexOf('--');
const { values, positionals } = parseArgs({
  args: process.argv.slice(2, split === -1 ? undefined : split),
  options: { udev: { type: 'boolean', default: false }, verbose: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const all = readdirSync(HERE).filter(name => name.endsWith('.test.ts'));
const names = positionals.filter(name => name !== POWER);
const files = positionals.length === 0 ? all : names.map(name => `${name}.test.ts`);
const withPower = split === -1 && (positionals.length === 0 || positionals.includes(POWER));
const testing = (of: readonly string[]) => [
  ...[NODE, '--test', '--test-concurrency=1', '--test-reporter=spec'],
  ...of.map(name => `test/vm/${name}`),
];
/** multipathd takes its paths from udev. */
const NEED_UDEV: readonly string[] = ['multipath.test.ts'];
const needsUdev = (name: string) => values.udev || NEED_UDEV.includes(name);
const boots =
  split === -1
    ? [false, true].map(udev => ({ udev, files: files.filter(name => needsUdev(name) === udev) }))
    : [{ udev: values.udev, files: [] }];

for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => process.exit(130));
try {
  const unknown = files.filter(name => !all.includes(name));
  if (unknown.length > 0)
    throw new SetupError(`Cannot find ${unknown.join(', ')}: there are ${all.join(', ')} and ${POWER}`);
  ensurePackages('vm', { quiet: true });
  const image = await ensureImage(text => console.error(text));
  for (const boot of boots) {
    if (split === -1 && boot.files.length === 0) continue;
    const status = await runInMachine(image, {
      command: split === -1 ? testing(boot.files) : process.argv.slice(split + 1),
      env: { SHIFTVOL_VM: '1', NO_COLOR: process.env['NO_COLOR'] ?? '1' },
      timeoutMs: TIMEOUT_MS,
      udev: boot.udev,
      verbose: values.verbose,
    });
    process.exitCode = Math.max(Number(process.exitCode ?? 0), status);
  }
  if (withPower) {
    const { status } = spawnSync(process.execPath, [`${HERE}power/main.ts`], { stdio: 'inherit' });
    process.exitCode = Math.max(Number(process.exitCode ?? 0), status ?? 1);
  }
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
