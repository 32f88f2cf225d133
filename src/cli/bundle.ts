/** What somebody who helps from afar wants to see of a host, and no secret among it. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { configSecrets, shownConfig } from '../config/shown.ts';
import type { Check } from '../doctor/check.ts';
import { examine, isFit } from '../doctor/examine.ts';
import { explain } from '../errors.ts';
import { readCloudFiles } from '../openstack/cloud-files.ts';
import { poolStatus } from '../storage/pool-status.ts';
import { runTool } from '../storage/tool.ts';
import { cloudLook } from './cloud-look.ts';
import type { GlobalOptions } from './command.ts';
import { callEngine, socketPath } from './engine-client.ts';
import { LazyCloud } from './lazy-cloud.ts';

const HIDDEN = '***';
/** One of less would be found in innocent words, and hides nothing. */
const SHORTEST = 3;
const SECRET_KEY = /pass|secret|token|private|credential/i;

/** Name -> text. What cannot be had is told in its place. */
export async function bundle(options: GlobalOptions, signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
  const config = loadConfig(options);
  const parts: Readonly<Record<string, () => unknown>> = {
    'version.json': () => ({
      shiftvol: JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version,
      node: process.versions.node,
      kernel: readFileSync('/proc/version', 'utf8').trim(),
      system: readFileSync('/etc/os-release', 'utf8').split('\n'),
      at: new Date().toISOString(),
    }),
    'config.json': () => ({ file: config.file, ...shownConfig(config) }),
    'doctor.json': async () => {
      const checks: Check[] = [];
      using lazy = new LazyCloud(config, undefined);
      const look = { config, socketPath: socketPath(config.runDir), cloud: cloudLook(lazy), signal };
      for await (const check of examine(look)) checks.push(check);
      return { ok: isFit(checks), checks };
    },
    'attachments.json': async () => await callEngine(options, { command: 'list' }),
    'ids.json': async () => await callEngine(options, { command: 'idmap.list' }),
    'pool.json': () => poolStatus(config),
    'subid.txt': () => `${readFileSync('/etc/subuid', 'utf8')}--\n${readFileSync('/etc/subgid', 'utf8')}`,
    'mounts.txt': () => mounts(config),
    'loops.txt': () => loops(config),
    // Of a service. An agent that was started by hand has its log where that was.
    'agent.log': async () =>
      (await runTool('journalctl', ['--unit', 'shiftvol', '--lines', '500', '--no-pager'], { signal })).stdout,
  };
  const hide = hider([...configSecrets(config), ...cloudSecrets(), ...environmentSecrets()]);
  const texts = new Map<string, string>();
  for (const [name, make] of Object.entries(parts)) {
    try {
      const value = await make();
      texts.set(name, hide(typeof value === 'string' ? value : `${JSON.stringify(value, null, 1)}\n`));
    } catch (error) {
      signal.throwIfAborted();
      texts.set(name, hide(`${explain(error)}\n`));
    }
  }
  return texts;
}

/** Nothing in the parts has a secret in it as it is; this is for what a tool or a daemon said in an error, and what it has logged. */
export function hider(secrets: readonly string[]): (text: string) => string {
  const all = [...new Set(secrets.flatMap(s => [s, encodeURIComponent(s), JSON.stringify(s).slice(1, -1)]))]
    .filter(s => s.length >= SHORTEST)
    .toSorted((a, b) => b.length - a.length);
  return text => all.reduce((shown, secret) => shown.replaceAll(secret, HIDDEN), text);
}

/** Of every cloud in clouds.yaml and secure.yaml. */
function cloudSecrets(): readonly string[] {
  try {
    return Object.values(readCloudFiles(process.env).clouds).flatMap(cloud => secretsIn(cloud));
  } catch {
    return []; // not readable: then nobody has used what is in it
  }
}

function secretsIn(value: unknown, isSecret = false): readonly string[] {
  if (typeof value === 'object' && value !== null)
    return Object.entries(value).flatMap(([key, below]) => secretsIn(below, isSecret || SECRET_KEY.test(key)));
  return isSecret && (typeof value === 'string' || typeof value === 'number') ? [String(value)] : [];
}

const environmentSecrets = (): readonly string[] =>
  Object.entries(process.env).flatMap(([name, value]) =>
    value && /^(?:OS_|SHIFTVOL_)/.test(name) && SECRET_KEY.test(name) ? [value] : [],
  );

const mounts = ({ runDir, stateDir, poolDir }: Config): string =>
  linesOf('/proc/self/mountinfo', line => [runDir, stateDir, poolDir].some(dir => line.includes(` ${dir}`)));

function loops({ stateDir, poolDir }: Config): string {
  const files = readdirSync('/sys/block').flatMap(name => {
    const file = join('/sys/block', name, 'loop/backing_file');
    try {
      return [`${name} ${readFileSync(file, 'utf8')}`];
    } catch {
      return []; // no loop device, or one that has just been freed
    }
  });
  return files.filter(line => [stateDir, poolDir].some(dir => line.includes(` ${dir}/`))).join('');
}

const linesOf = (path: string, wanted: (line: string) => boolean): string =>
  readFileSync(path, 'utf8')
    .split('\n')
    .filter(wanted)
    .map(line => `${line}\n`)
    .join('');
