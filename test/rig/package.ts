/** A checkout of its own in which packages can be built, and a minimal Debian in which they are installed. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SOURCES = [
  ...['src', 'build', 'bin', 'deploy', 'package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json'],
  ...['plugin.yaml', 'README.md', 'ARCHITECTURE.md', 'DECISIONS.md', 'CHANGELOG.md', 'LICENSE'],
];

export type Checkout = AsyncDisposable & {
  readonly path: string;
  /** What it prints. @throws where it fails, with its output */
  run(command: string, ...args: readonly string[]): string;
};

/** Everything that a build needs, built: dist/ of the checkout that is being worked on is left alone. Takes some seconds. */
export function builtCheckout(): Checkout {
  const path = mkdtempSync(join(tmpdir(), 'shiftvol-build-'));
  for (const name of SOURCES) cpSync(join(ROOT, name), join(path, name), { recursive: true });
  // 140 MB: as links, where that can be.
  execFileSync('sh', ['-c', 'cp -al "$0/node_modules" "$1/" 2>/dev/null || cp -a "$0/node_modules" "$1/"', ROOT, path]);
  const env = { ...process.env, PATH: `${path}/node_modules/.bin:${process.env['PATH']}` };
  const run = (command: string, ...args: readonly string[]) =>
    execFileSync(command, args, { cwd: path, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  try {
    run('npm', 'run', 'build');
    run('npm', 'run', 'build:man');
  } catch (error) {
    rmSync(path, { recursive: true });
    throw error;
  }
  return { path, run, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

export type MinimalRoot = AsyncDisposable & {
  readonly path: string;
  /**
   * Runs a shell script in it as its root, in a mount namespace that ends with it: what it mounts is gone then, whatever happens.
   */
  run(script: string): Promise<{ readonly status: number | null; readonly output: string }>;
};

/** Debian with `packages` and what is essential, as this host has it or of another release. Takes a minute and a mirror; undefined where there is none. */
export function minimalRoot(packages: readonly string[], suite: string = ownSuite()): MinimalRoot | undefined {
  const path = mkdtempSync(join(tmpdir(), 'shiftvol-root-'));
  const remove = () => rm(path, { recursive: true, force: true });
  try {
    execFileSync('mmdebstrap', ['--variant=minbase', `--include=${packages.join(',')}`, suite, path], {
      stdio: 'pipe',
    });
  } catch {
    void remove();
    return undefined;
  }
  return {
    path,
    async run(script) {
      // Not chroot: from there the kernel makes no user namespaces.
      const inside =
        'mount --rbind "$0" "$0" && cd "$0" && mount -t proc proc proc && mount --rbind /sys sys && mount --rbind /dev dev && ' +
        'pivot_root . . && umount -l . && cd / && exec /bin/sh -c "$1"';
      const child = spawn('unshare', ['--mount', 'sh', '-c', inside, path, script], {
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let output = '';
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', text => {
          output += text;
        });
      const [status] = await once(child, 'close');
      return { status, output };
    },
    [Symbol.asyncDispose]: remove,
  };
}

function ownSuite(): string {
  return execFileSync('sh', ['-c', '. /etc/os-release; echo "$VERSION_CODENAME"'], { encoding: 'utf8' }).trim();
}
