/** Finds and reads clouds.yaml, and puts secure.yaml and clouds-public.yaml with it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { load, YAMLException } from 'js-yaml';
import { ShiftvolError } from '../errors.ts';
import type { Environment } from './cloud.ts';

export type CloudFiles = {
  readonly clouds: readonly string[];
  readonly secure?: readonly string[];
  readonly vendor?: readonly string[];
};
export type FoundClouds = {
  /** The clouds.yaml that was read. */
  readonly file: string | undefined;
  readonly looked: readonly string[];
  readonly clouds: Readonly<Record<string, Mapping>>;
};
type Mapping = Record<string, unknown>;

/** Of each kind the first file that exists is read, and no other. @throws SV_CONFIG: unreadable, or not what such a file is */
export function readCloudFiles(env: Environment, files: CloudFiles = usualFiles(env)): FoundClouds {
  const main = readFirst(files.clouds);
  const secure = readFirst(files.secure ?? []);
  const vendor = readFirst(files.vendor ?? []);
  const hidden = cloudsOf(secure, 'clouds');
  const profiles = cloudsOf(vendor, 'public-clouds');
  const clouds = Object.entries(cloudsOf(main, 'clouds')).map(([name, given]) => {
    const base = profileOf(given, profiles, `${main?.file}: clouds.${name}`);
    return [name, merge(merge(base, given), hidden[name] ?? {})] as const;
  });
  return { file: main?.file, looked: files.clouds, clouds: Object.fromEntries(clouds) };
}

/** The order of openstacksdk: what a variable names, else here, the user's directory, the system's. */
function usualFiles(env: Environment): CloudFiles {
  const user = env['XDG_CONFIG_HOME'] || (env['HOME'] ? join(env['HOME'], '.config') : undefined);
  const directories = ['.', ...(user === undefined ? [] : [join(user, 'openstack')]), '/etc/openstack'];
  const named = (variable: string, name: string): readonly string[] => [
    ...(env[variable] ? [env[variable]] : []),
    ...directories.flatMap(directory => [join(directory, `${name}.yaml`), join(directory, `${name}.yml`)]),
  ];
  return {
    clouds: named('OS_CLIENT_CONFIG_FILE', 'clouds'),
    secure: named('OS_CLIENT_SECURE_FILE', 'secure'),
    vendor: named('OS_CLIENT_VENDOR_FILE', 'clouds-public'),
  };
}

type ReadFile = { readonly file: string; readonly content: Mapping };

function readFirst(files: readonly string[]): ReadFile | undefined {
  for (const file of files) {
    const text = readIfThere(file);
    if (text !== undefined) return { file, content: parse(file, text) };
  }
  return undefined;
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return;
    throw new ShiftvolError('SV_CONFIG', `Cannot read "${file}"`, {
      field: 'openstack',
      remedy: 'make it a readable file',
      cause: error,
    });
  }
}

function parse(file: string, text: string): Mapping {
  try {
    const content = load(text, { filename: file, maxAliases: 100 });
    if (isMapping(content)) return content;
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error;
    // The exception itself quotes the lines around, and a password may be among them.
    const line = error.mark === undefined ? '' : `:${error.mark.line + 1}`;
    throw new ShiftvolError('SV_CONFIG', `Cannot read ${file}${line}: ${error.reason}`, { field: 'openstack' });
  }
  throw new ShiftvolError('SV_CONFIG', `Cannot read ${file}: a mapping of keys is accepted`, { field: 'openstack' });
}

function cloudsOf(read: ReadFile | undefined, key: 'clouds' | 'public-clouds'): Record<string, Mapping> {
  const all = read?.content[key] ?? {};
  if (isMapping(all)) {
    const entries = Object.entries(all);
    if (entries.every((entry): entry is [string, Mapping] => isMapping(entry[1]))) return Object.fromEntries(entries);
  }
  throw new ShiftvolError('SV_CONFIG', `Cannot use ${read?.file}: "${key}": a mapping of clouds by name is accepted`, {
    field: key,
  });
}

/** A profile is a public cloud's part that all its customers share. Those that come with openstacksdk are not known here. */
function profileOf(given: Mapping, profiles: Record<string, Mapping>, where: string): Mapping {
  const name = given['profile'] ?? given['cloud'];
  if (name === undefined) return {};
  const found = typeof name === 'string' ? profiles[name] : undefined;
  if (found) return found;
  throw new ShiftvolError('SV_CONFIG', `Cannot use ${where}.profile: clouds-public.yaml has no such profile`, {
    field: 'profile',
    remedy: 'write auth_url and region_name out in clouds.yaml',
  });
}

function merge(base: Mapping, over: Mapping): Mapping {
  const merged = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const below = merged[key];
    merged[key] = isMapping(below) && isMapping(value) ? merge(below, value) : value;
  }
  return merged;
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
