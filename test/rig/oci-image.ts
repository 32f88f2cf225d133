/**
 * The image of deploy/Dockerfile, built by buildah without a registry: the base by mmdebstrap, npm's packages from a cache. Needs root.
 * First use takes minutes (base, 220 MB; packages), later ones under one.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { toolCache } from './npm-archive.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DOCKERFILE = join(ROOT, 'deploy/Dockerfile');
/** What the tests use of the Dockerfile's PACKAGES. */
const BASE_PACKAGES = 'mount,e2fsprogs,xfsprogs,btrfs-progs,qemu-utils,kmod,ca-certificates,libstdc++6';
const NPM_CACHE = () => join(toolCache(), 'npm');

export type OciImage = Disposable & {
  /** A root file system that can be run, mounted as long as this lives. */
  readonly rootfs: string;
  readonly sizeBytes: number;
  /** Of buildah alone. */
  readonly buildMs: number;
  /** As `buildah inspect` shows it. */
  readonly config: unknown;
};

export function buildImage(): OciImage {
  const base = baseArchive();
  fillNpmCache();
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-image-'));
  const buildah = buildahIn(dir);
  try {
    const builder = makeStages(buildah, base);
    const began = performance.now();
    const args = { BASE: 'localhost/base', BUILDER: builder, PACKAGES: '' };
    buildah(
      ...['bud', '--pull=never', '--network', 'none', '-f', DOCKERFILE, '-t', 'localhost/shiftvol'],
      ...['--ignorefile', `${DOCKERFILE}.dockerignore`, '--volume', `${NPM_CACHE()}:/root/.npm`],
      ...Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]),
      ROOT,
    );
    const buildMs = performance.now() - began;
    const container = buildah('from', 'localhost/shiftvol').trim();
    const rootfs = buildah('mount', container).trim();
    const inspected: { OCIv1: { config: unknown } } = JSON.parse(
      buildah('inspect', '--type', 'image', 'localhost/shiftvol'),
    );
    const sizeBytes = Number(execFileSync('du', ['-sxb', rootfs], { encoding: 'utf8' }).split('\t')[0]);
    return {
      rootfs,
      sizeBytes,
      buildMs,
      config: inspected.OCIv1.config,
      [Symbol.dispose]: () => remove(buildah, dir),
    };
  } catch (error) {
    remove(buildah, dir);
    throw error;
  }
}

type Buildah = (...args: readonly string[]) => string;

/** A store of its own. RUN works in a chroot: no runtime, no namespaces of its own are needed. */
function buildahIn(dir: string): Buildah {
  const store = ['--root', join(dir, 'store'), '--runroot', join(dir, 'run')];
  const env = { ...process.env, BUILDAH_ISOLATION: 'chroot', TMPDIR: dir };
  return (...args) =>
    execFileSync('buildah', [...store, ...args], {
      env,
      encoding: 'utf8',
      maxBuffer: 64 * 2 ** 20,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
}

/** The base, and the base with npm. Returns the latter's name. */
function makeStages(buildah: Buildah, base: string): string {
  const plain = buildah('from', 'scratch').trim();
  buildah('add', '-q', plain, base, '/');
  buildah('commit', '-q', '--rm', plain, 'localhost/base');
  const builder = buildah('from', 'localhost/base').trim();
  const npm = join(execFileSync('npm', ['root', '-g'], { encoding: 'utf8' }).trim(), 'npm');
  buildah('copy', '-q', builder, process.execPath, '/usr/local/bin/node');
  buildah('copy', '-q', builder, npm, '/usr/local/lib/node_modules/npm');
  buildah('run', builder, 'ln', '-s', '../lib/node_modules/npm/bin/npm-cli.js', '/usr/local/bin/npm');
  buildah('config', '--env', 'npm_config_offline=true', builder);
  buildah('commit', '-q', '--rm', builder, 'localhost/builder');
  return 'localhost/builder';
}

function remove(buildah: Buildah, dir: string): void {
  buildah('rm', '--all');
  buildah('rmi', '--all', '--force');
  rmSync(dir, { recursive: true });
}

function baseArchive(): string {
  const there = join(toolCache(), 'image-base-bookworm.tar');
  if (existsSync(there)) return there;
  mkdirSync(toolCache(), { recursive: true });
  const work = `${there}.${process.pid}`;
  const without = ['doc', 'man', 'locale'].map(what => `--dpkgopt=path-exclude=/usr/share/${what}/*`);
  const options = ['--quiet', '--mode=root', '--variant=essential', `--include=${BASE_PACKAGES}`, ...without];
  execFileSync('mmdebstrap', [...options, '--aptopt=APT::Install-Recommends "false"', 'bookworm', work], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  renameSync(work, there);
  return there;
}

/** All that package-lock.json names, and Node itself, which its package fetches when it is installed. */
function fillNpmCache(): void {
  const lock = readFileSync(join(ROOT, 'package-lock.json'));
  const mark = join(toolCache(), `npm-${createHash('sha256').update(lock).digest('hex').slice(0, 16)}`);
  if (existsSync(mark)) return;
  mkdirSync(toolCache(), { recursive: true });
  const work = mkdtempSync(join(tmpdir(), 'shiftvol-npm-'));
  try {
    for (const name of ['package.json', 'package-lock.json']) copyFileSync(join(ROOT, name), join(work, name));
    execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--prefer-offline', '--cache', NPM_CACHE()], {
      cwd: work,
      stdio: 'ignore',
    });
    mkdirSync(mark);
  } finally {
    rmSync(work, { recursive: true });
  }
}
