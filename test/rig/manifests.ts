/** Checks manifests by Kubernetes' own types: each becomes a typed literal, so that tsc finds wrong, missing and unknown fields. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadAll } from 'js-yaml';
import { npmArchive } from './npm-archive.ts';

/** Made from the API's own OpenAPI description, 1.30. */
const TYPES = {
  name: 'kubernetes-types',
  version: '1.30.0',
  integrity: 'sha512-Dew1okvhM/SQcIa2rcgujNndZwU8VnSapDgdxlYoB84ZlpAD43U6KLAFqYo17ykSFGHNPrg0qry0bP+GJd9v7Q==',
} as const;
const TSC = fileURLToPath(new URL('../../node_modules/.bin/tsc', import.meta.url));

export type Mapping = { readonly [key: string]: unknown };
export type Manifest = Mapping & { readonly apiVersion: string; readonly kind: string };
export type Checked = {
  /** What tsc says, empty where all is well. Files are named by `set`, place and kind. */
  readonly errors: string;
  readonly checked: number;
  /** Kinds that Kubernetes itself does not have. */
  readonly foreign: readonly string[];
};

export function isMapping(value: unknown): value is Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The documents of a rendered chart. @throws one is no manifest */
export function parseManifests(text: string): readonly Manifest[] {
  const documents: unknown[] = loadAll(text);
  return documents.filter(document => document !== null && document !== undefined).map(asManifest);
}

function asManifest(document: unknown): Manifest {
  if (isMapping(document)) {
    const { apiVersion, kind } = document;
    if (typeof apiVersion === 'string' && typeof kind === 'string') return { ...document, apiVersion, kind };
  }
  throw new Error(`No manifest: ${JSON.stringify(document)}`);
}

/** All sets in one go of tsc, about 1 s. */
export function checkManifests(sets: Readonly<Record<string, readonly Manifest[]>>): Checked {
  const types = npmArchive(TYPES);
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-manifests-'));
  const files: string[] = [];
  const foreign = new Set<string>();
  try {
    mkdirSync(join(dir, 'node_modules'));
    symlinkSync(types, join(dir, 'node_modules/kubernetes-types'));
    for (const [set, manifests] of Object.entries(sets))
      for (const [place, manifest] of manifests.entries()) {
        const module = moduleOf(manifest.apiVersion);
        if (!existsSync(join(types, `${module}.d.ts`))) {
          foreign.add(manifest.kind);
          continue;
        }
        const file = `${set}-${place}-${manifest.kind}.ts`;
        writeFileSync(
          join(dir, file),
          `import type { ${manifest.kind} } from 'kubernetes-types/${module}';\nexport const manifest: ${manifest.kind} = ${JSON.stringify(manifest, null, 1)};\n`,
        );
        files.push(file);
      }
    const flags = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'esnext'];
    const { status, stdout } = spawnSync(TSC, [...flags, '--moduleResolution', 'bundler', ...files], {
      cwd: dir,
      encoding: 'utf8',
    });
    return { errors: status === 0 ? '' : stdout, checked: files.length, foreign: [...foreign].toSorted() };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** `networking.k8s.io/v1` is networking/v1, `v1` core/v1. */
function moduleOf(apiVersion: string): string {
  const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['core', apiVersion];
  return `${group?.split('.')[0]}/${version}`;
}
