/** The machine's image: a small Debian with its stock kernel and all that storage needs, made once and kept. Root is needed. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { open } from '../../../src/kernel/fd.ts';
import { tryLock } from '../../../src/kernel/file-lock.ts';
import { cpio, directory, file } from './cpio.ts';

/** kernel and initrd for QEMU, root: the file system, EROFS. */
export type Image = { readonly kernel: string; readonly initrd: string; readonly root: string };

const GUEST = new URL('guest/', import.meta.url).pathname;
const RELEASE = 'bookworm';
/** A meta package; the one that it depends on is unpacked. */
const KERNEL = 'linux-image-6.12-cloud-amd64';
/** What the initramfs must load to get at the image, the scratch disk and the project's tree. */
const EARLY_MODULES = ['virtio_pci', 'virtio_blk', 'virtio_console', 'erofs', 'ext4', 'overlay', 'virtiofs'] as const;
const PACKAGES = [
  ...['kmod', 'udev', 'iproute2', 'procps', 'mount', 'bash', 'busybox-static', 'libstdc++6', 'libatomic1'],
  ...['e2fsprogs', 'xfsprogs', 'btrfs-progs', 'dmsetup', 'lvm2', 'cryptsetup-bin', 'qemu-utils'],
  ...['open-iscsi', 'multipath-tools', 'nvme-cli', 'nfs-kernel-server', 'nfs-common', 'rpcbind'],
  ...['ceph-mon', 'ceph-osd', 'ceph-base', 'ceph-common', 'rbd-nbd'],
] as const;
const INITIATOR = 'iqn.2026-01.test.vm:host';
const NVME_HOST = '11111111-2222-3333-4444-555555555555';
const EMPTY_ROOT_FILES: Readonly<Record<string, string>> = {
  'etc/hosts': '127.0.0.1 localhost vm\n::1 localhost\n',
  'etc/hostname': 'vm\n',
  'etc/fstab': '',
  'etc/machine-id': '0123456789abcdef0123456789abcdef\n',
  'etc/iscsi/initiatorname.iscsi': `InitiatorName=${INITIATOR}\n`,
  'etc/nvme/hostnqn': `nqn.2014-08.org.nvmexpress:uuid:${NVME_HOST}\n`,
  'etc/nvme/hostid': `${NVME_HOST}\n`,
  // For multipathd: every device with more than one path, and no waiting for more.
  'etc/multipath.conf': 'defaults {\n  find_multipaths no\n  user_friendly_names no\n}\n',
  'etc/lvm/lvmlocal.conf': 'activation {\n  udev_sync=0\n  udev_rules=0\n}\n',
};

/** The image as it is kept, or a new one: it takes about a minute. `say` gets what is done, for people. */
export async function ensureImage(say: (text: string) => void): Promise<Image> {
  const cache = process.env['SHIFTVOL_VM_CACHE'] ?? join(homedir(), '.cache/shiftvol');
  mkdirSync(cache, { recursive: true });
  const kept = join(cache, `vm-${fingerprint()}`);
  using lock = open(join(cache, 'lock'), 'w');
  while (!tryLock(lock.fd, 'exclusive', cache)) await sleep(200);
  if (!existsSync(kept)) {
    say(`making the machine's image, ${kept}`);
    const started = performance.now();
    makeImage(cache, kept);
    say(`made in ${Math.round((performance.now() - started) / 1000)} s`);
  }
  return { kernel: join(kept, 'kernel'), initrd: join(kept, 'initrd'), root: join(kept, 'root.erofs') };
}

/** Of all that goes into it, so that a change here makes a new one. */
function fingerprint(): string {
  const parts = [readFileSync(new URL(import.meta.url)), readFileSync(join(GUEST, 'init'))];
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex').slice(0, 16);
}

function makeImage(cache: string, kept: string): void {
  const work = mkdtempSync(join(cache, 'making-'));
  chmodSync(work, 0o755);
  try {
    const root = join(work, 'root');
    installPackages(work, root);
    const version = unpackKernel(work, root);
    for (const [path, text] of Object.entries(EMPTY_ROOT_FILES)) {
      mkdirSync(join(root, path, '..'), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    const made = join(work, 'made');
    mkdirSync(made);
    writeFileSync(join(made, 'initrd'), initramfs(root, version));
    renameSync(join(work, 'kernel-package/boot', `vmlinuz-${version}`), join(made, 'kernel'));
    run('mkfs.erofs', ['-zlz4', join(made, 'root.erofs'), root]);
    renameSync(made, kept);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** mmdebstrap's own apt knows where packages come from; the kernel is only fetched: its scripts would make an initramfs nobody needs. */
function installPackages(work: string, root: string): void {
  const fetchKernel = [
    `cd '${work}'`,
    'export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"',
    `apt-get download -q -o APT::Sandbox::User=root "$(apt-cache depends ${KERNEL} | sed -n 's/.*Depends: \\(linux-image-[0-9].*\\)/\\1/p' | head -n 1)"`,
  ].join(' && ');
  const skipped = ['doc', 'man', 'locale'].map(name => `--dpkgopt=path-exclude=/usr/share/${name}/*`);
  run('mmdebstrap', [
    ...['--mode=root', '--variant=essential', `--include=${PACKAGES.join(',')}`],
    ...['--aptopt=APT::Install-Recommends "false"', ...skipped, `--customize-hook=${fetchKernel}`],
    ...[RELEASE, root],
  ]);
}

/** Modules are kept unpacked: the machine is emulated, and slow at that. Returns the kernel's version. */
function unpackKernel(work: string, root: string): string {
  const deb = readdirSync(work).find(name => name.endsWith('.deb'));
  if (deb === undefined) throw new Error('mmdebstrap has fetched no kernel');
  const unpacked = join(work, 'kernel-package');
  run('dpkg-deb', ['-x', join(work, deb), unpacked]);
  const [version] = readdirSync(join(unpacked, 'lib/modules'));
  if (version === undefined) throw new Error(`${deb} has no modules`);
  mkdirSync(join(root, 'usr/lib/modules'), { recursive: true });
  const modules = join(root, 'usr/lib/modules', version);
  renameSync(join(unpacked, 'lib/modules', version), modules);
  run('find', [modules, '-name', '*.ko.xz', '-exec', 'xz', '-d', '{}', '+']);
  run('chroot', [root, 'depmod', version]);
  return version;
}

function initramfs(root: string, version: string): Buffer {
  const paths = EARLY_MODULES.flatMap(name =>
    run('chroot', [root, 'modprobe', '-S', version, '--show-depends', name])
      .split('\n')
      .flatMap(line => /^insmod (\S+)/.exec(line)?.[1] ?? []),
  );
  const modules = [...new Set(paths)];
  return cpio([
    ...['bin', 'modules', 'proc', 'sys', 'dev'].map(directory),
    file('bin/busybox', readFileSync(join(root, 'bin/busybox'))),
    file('init', readFileSync(join(GUEST, 'init'))),
    ...modules.map(path => file(`modules/${basename(path)}`, readFileSync(join(root, path)), 0o644)),
    file('modules/order', modules.map(path => `${basename(path)}\n`).join(''), 0o644),
  ]);
}

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 64 * 2 ** 20 });
  if (error) throw new Error(`Cannot run ${command}: it is not installed`, { cause: error });
  if (status !== 0)
    throw new Error(`${command} ended with ${status}: ${stderr.trim().split('\n').slice(-8).join('\n')}`);
  return stdout;
}
