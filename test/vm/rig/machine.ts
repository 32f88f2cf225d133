/** One boot of the test machine: a command runs in the project's tree, its output comes out here, and all of it is gone afterwards. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { cpio, directory, file } from './cpio.ts';
import type { Image } from './image.ts';

export type Disk = { readonly file: string; readonly log?: string };
export type Job = {
  /** The program and its arguments, run as root in the tree. */
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Start udevd: /dev/disk, and device nodes of LVM and RBD, come from it. */
  readonly udev?: boolean;
  readonly timeoutMs: number;
  /** Show the kernel's log. */
  readonly verbose?: boolean;
  /** /dev/vdc and so on, which stay. `log`: the file that notes what is written to it (`power/write-log.ts`). */
  readonly disks?: readonly Disk[];
  /** Where the command's stdout goes. Default: to ours. */
  readonly stdout?: Writable;
};

const TREE = new URL('../../..', import.meta.url).pathname.replace(/\/$/, '');
const GUEST_START = new URL('guest/start', import.meta.url).pathname;
const MEMORY = '2G';
const SCRATCH_BYTES = 16 * 2 ** 30;
const VIRTIOFSD = ['/usr/lib/qemu/virtiofsd', '/usr/libexec/virtiofsd', '/usr/lib/virtiofsd'] as const;

/**
 * The command's exit status. Output goes to our own stdout and stderr as it comes.
 * @throws Error: the machine did not come up, died, or took too long; with the end of its console
 */
export async function runInMachine(image: Image, job: Job): Promise<number> {
  await using scope = new AsyncDisposableStack();
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-vm-'));
  scope.defer(() => rmSync(dir, { recursive: true, force: true }));
  writeJob(dir, image, job);
  makeScratch(join(dir, 'scratch'));
  for (const name of ['out', 'err'] as const)
    scope.use(await listen(join(dir, name), name === 'out' ? (job.stdout ?? process.stdout) : process.stderr));
  scope.use(await shareTree(join(dir, 'tree')));
  const console = join(dir, 'console');
  const machine = start('qemu-system-x86_64', argumentsOf(dir, image, job));
  scope.use(machine);
  const inTime = await Promise.race([machine.ended.then(() => true), sleep(job.timeoutMs, false, { ref: false })]);
  const status = readIfThere(join(dir, 'status')).trim();
  if (job.verbose) process.stderr.write(readIfThere(console));
  if (status !== '') return Number(status);
  const end = readIfThere(console).split('\n').slice(-30).join('\n');
  throw new Error(
    `${inTime ? 'The machine died' : `The machine took longer than ${job.timeoutMs / 1000} s`}. The end of its console:\n${end}\n${machine.words()}`,
  );
}

/** The kernel unpacks one archive after the other: the image's own, and what this boot is to do. */
function writeJob(dir: string, image: Image, { command, env = {}, udev }: Job): void {
  const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  const exports = Object.entries(env).map(([name, value]) => `export ${name}=${quote(value)}\n`);
  const initrd = join(dir, 'initrd');
  copyFileSync(image.initrd, initrd);
  appendFileSync(
    initrd,
    cpio([
      directory('job'),
      file('job/start', readFileSync(GUEST_START)),
      file('job/command', `${exports.join('')}exec ${command.map(quote).join(' ')}\n`),
      ...(udev ? [file('job/udev', '')] : []),
    ]),
  );
}

function makeScratch(path: string): void {
  writeFileSync(path, '');
  truncateSync(path, SCRATCH_BYTES);
  const { status, stderr } = spawnSync('mke2fs', [
    ...['-q', '-t', 'ext4', '-O', '^has_journal', '-E', 'lazy_itable_init=1,nodiscard', path],
  ]);
  if (status !== 0) throw new Error(`Cannot make the scratch disk: ${stderr}`);
}

function argumentsOf(dir: string, { kernel, root }: Image, { verbose, disks = [] }: Job): readonly string[] {
  // One thread for all virtual CPUs: with one each, a kernel that patches its own code while another CPU runs it dies of it.
  const accelerator = 'tcg,thread=single,tb-size=512';
  // No PIT: where others want the processors too, a kernel that measures its clock by it is seven times too fast, and so are all deadlines.
  const boot =
    'panic=-1 net.ifnames=0 mitigations=off nokaslr no_timer_check tsc=reliable nowatchdog audit=0 apparmor=0';
  const port = (name: string, chardev: string) => [
    '-chardev',
    `${chardev},id=${name}`,
    '-device',
    `virtserialport,chardev=${name},name=${name}`,
  ];
  return [
    ...['-M', 'q35,pit=off', '-accel', accelerator, '-cpu', 'max,la57=off', '-smp', '2', '-m', MEMORY],
    ...['-object', `memory-backend-memfd,id=memory,size=${MEMORY},share=on`, '-numa', 'node,memdev=memory'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-device', 'virtio-rng-pci'],
    ...['-kernel', kernel, '-initrd', join(dir, 'initrd'), '-serial', `file:${join(dir, 'console')}`],
    ...['-append', `console=ttyS0 ${verbose ? '' : 'quiet'} ${boot}`],
    ...['-drive', `file=${root},if=none,id=root,format=raw,readonly=on`, '-device', 'virtio-blk-pci,drive=root'],
    ...['-drive', `file=${join(dir, 'scratch')},if=none,id=scratch,format=raw,cache=unsafe,discard=unmap`],
    ...['-device', 'virtio-blk-pci,drive=scratch', '-device', 'virtio-serial-pci'],
    ...disks.flatMap(diskArguments),
    ...port('status', `file,path=${join(dir, 'status')}`),
    ...port('out', `socket,path=${join(dir, 'out')}`),
    ...port('err', `socket,path=${join(dir, 'err')}`),
    ...['-chardev', `socket,id=tree,path=${join(dir, 'tree')}`, '-device', 'vhost-user-fs-pci,chardev=tree,tag=tree'],
  ];
}

/** The host's own cache survives the machine, so that nothing is synced: what a flush would have saved is told by the log. */
function diskArguments({ file, log }: Disk, number: number): readonly string[] {
  const name = `disk${number}`;
  const node = (node: string, filename: string) => ({
    driver: 'raw',
    'node-name': node,
    cache: { 'no-flush': true },
    file: { driver: 'file', filename, cache: { 'no-flush': true } },
  });
  const nodes = log
    ? [
        node(`${name}-file`, file),
        node(`${name}-log`, log),
        { driver: 'blklogwrites', 'node-name': name, file: `${name}-file`, log: `${name}-log` },
      ]
    : [node(name, file)];
  // Zeros and discards are noted in two pieces with others' between them; of requests that QEMU has merged into large ones some are not noted.
  const plain = 'discard=off,write-zeroes=off,request-merging=off,write-cache=on';
  return [
    ...nodes.flatMap(each => ['-blockdev', JSON.stringify(each)]),
    ...['-device', `virtio-blk-pci,drive=${name},${plain}`],
  ];
}

/** A socket, not a pipe: at the end of one QEMU would close the port, and whoever writes to it in the machine would wait for ever. */
async function listen(path: string, to: Writable): Promise<AsyncDisposable> {
  const server = createServer(
    socket => void socket.on('data', chunk => to.write(chunk)).on('error', () => socket.destroy()),
  );
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));
  return { [Symbol.asyncDispose]: () => new Promise(resolve => server.close(() => resolve())) };
}

async function shareTree(socket: string): Promise<AsyncDisposable> {
  const program = VIRTIOFSD.find(path => existsSync(path));
  if (program === undefined) throw new Error('Cannot find virtiofsd: it comes with qemu-system-x86 or virtiofsd');
  // The one that came with QEMU takes other arguments than its successor.
  const old = program === '/usr/lib/qemu/virtiofsd';
  const how = old ? ['-o', `source=${TREE}`, '-o', 'cache=always'] : ['--shared-dir', TREE, '--cache', 'always'];
  const server = start(program, [`--socket-path=${socket}`, ...how]);
  for (let tries = 0; !existsSync(socket); tries++) {
    if (tries > 250) throw new Error(`virtiofsd did not start: ${server.words()}`);
    await sleep(20);
  }
  return server;
}

type Running = AsyncDisposable & { readonly ended: Promise<void>; words(): string };

function start(program: string, args: readonly string[]): Running {
  const child: ChildProcess = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  // Whoever ends us ends the machine too.
  const end = (): void => void child.kill('SIGKILL');
  process.once('exit', end);
  let said = '';
  const hear = (chunk: Buffer): void => {
    said = (said + chunk.toString('utf8')).slice(-10_000);
  };
  child.stdout?.on('data', hear);
  child.stderr?.on('data', hear);
  const ended = new Promise<void>(resolve => {
    child.once('error', error => {
      said += error.message;
      resolve();
    });
    child.once('close', () => {
      process.off('exit', end);
      resolve();
    });
  });
  return {
    ended,
    words: () => said,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

function readIfThere(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}
