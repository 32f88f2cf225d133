/** A root file system of one static binary, built here: nothing is downloaded. Debian and Ubuntu package it as busybox-static. */
import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, open, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const BUSYBOX = '/bin/busybox';

/** Users of the image, as in /etc/passwd. */
export const USERS = [
  { name: 'root', id: 0, home: '/root' },
  { name: 'daemon', id: 1, home: '/' },
  { name: 'www', id: 33, home: '/srv' },
  { name: 'app', id: 1000, home: '/home/app' },
  { name: 'nobody', id: 65534, home: '/' },
] as const;

/**
 * Process 1: sleeps for ever, reaps whoever is left to it (a shell's `wait` does), and ends at once when the runtime asks for a halt
 * (SIGPWR), which busybox's own init does not know.
 */
const INIT = `#!/bin/sh
trap 'exit 0' PWR TERM
while :; do sleep 1000000 & wait; done
`;

/** Fills the directory with a small Linux: shell, applets, users, init. Owned by root, ids from 0 on. */
export async function makeRootfs(dir: string): Promise<void> {
  await requireStatic();
  for (const path of ['bin', 'sbin', 'etc', 'dev', 'proc', 'sys', 'run', 'mnt', 'srv', 'root', 'var', 'home'])
    await mkdir(join(dir, path), { recursive: true });
  await mkdir(join(dir, 'tmp'));
  await chmod(join(dir, 'tmp'), 0o1777);
  await copyFile(BUSYBOX, join(dir, 'bin/busybox'));
  await chmod(join(dir, 'bin/busybox'), 0o755);
  const { stdout } = await run(BUSYBOX, ['--list']);
  for (const applet of stdout.split('\n'))
    if (applet !== '' && applet !== 'busybox' && applet !== 'init') await symlink('busybox', join(dir, 'bin', applet));
  await writeFile(join(dir, 'sbin/init'), INIT, { mode: 0o755 });
  await writeFile(join(dir, 'etc/passwd'), USERS.map(u => `${u.name}:x:${u.id}:${u.id}::${u.home}:/bin/sh\n`).join(''));
  await writeFile(join(dir, 'etc/group'), USERS.map(u => `${u.name}:x:${u.id}:\n`).join(''));
  await mkdir(join(dir, 'home/app'));
  await run('chown', ['1000:1000', join(dir, 'home/app')]);
}

/** Two images in the runtime's unified format, below `dir`: a whole busybox, and a stub with an empty rootfs. */
export async function makeImages(dir: string): Promise<{ busybox: string; stub: string }> {
  const busybox = join(dir, 'busybox');
  const stub = join(dir, 'stub');
  await mkdir(join(stub, 'rootfs'), { recursive: true });
  await mkdir(join(busybox, 'rootfs'), { recursive: true });
  await makeRootfs(join(busybox, 'rootfs'));
  return { busybox: await pack(busybox), stub: await pack(stub) };
}

async function pack(dir: string): Promise<string> {
  const { stdout } = await run('uname', ['-m']);
  await writeFile(join(dir, 'metadata.yaml'), `architecture: ${stdout.trim()}\ncreation_date: 1700000000\n`);
  await run('tar', ['-C', dir, '--numeric-owner', '-cf', `${dir}.tar`, 'metadata.yaml', 'rootfs']);
  return `${dir}.tar`;
}

async function requireStatic(): Promise<void> {
  const remedy = 'install it with: apt-get install busybox-static';
  const file = await open(BUSYBOX).catch(cause => {
    throw new Error(`Cannot build a busybox image: there is no ${BUSYBOX}; ${remedy}`, { cause });
  });
  await using _ = file;
  // A dynamic program names its loader in the first page, and would not start in a root file system without libc.
  const { buffer } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
  if (buffer.includes('/ld-')) throw new Error(`Cannot build a busybox image: ${BUSYBOX} is not static; ${remedy}`);
}
