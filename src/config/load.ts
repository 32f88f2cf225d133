/** Finds, reads and checks the configuration. Synchronous: it is small, and every command needs it first. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { ShiftvolError } from '../errors.ts';
import { isAsReleased, PACKAGED_CONFIG, yaml } from './packaged.ts';
import { lineOf } from './position.ts';
import { type Config, schema } from './schema.ts';
import { Misfit, showPath } from './shape.ts';

export { PACKAGED_CONFIG } from './packaged.ts';
export { maskUrl } from './transport-url.ts';

export type ConfigOptions = {
  readonly config?: string | undefined;
  readonly stateDir?: string | undefined;
  readonly runDir?: string | undefined;
};
type Environment = Readonly<Record<string, string | undefined>>;

const SYSTEM_CONFIG = '/etc/shiftvol/plugin.yaml';

/** Environment variables and the key that each takes the place of. SHIFTVOL_TRANSPORT_URL is `bus.url` and all of `bus.listen`. */
const ENVIRONMENT = {
  SHIFTVOL_HOST: ['host'],
  SHIFTVOL_STATE_DIR: ['state_dir'],
  SHIFTVOL_RUN_DIR: ['run_dir'],
  SHIFTVOL_POOL_DIR: ['pool_dir'],
  SHIFTVOL_LXD_SOCKET: ['runtimes', 'lxd', 'socket'],
  SHIFTVOL_LXD_PROJECT: ['runtimes', 'lxd', 'project'],
  SHIFTVOL_MANAGEMENT_URL: ['bus', 'management_url'],
  SHIFTVOL_HTTP_LISTEN: ['http', 'listen'],
} as const satisfies Readonly<Record<string, readonly string[]>>;

/**
 * The configuration in effect. The file is `options.config`, else $SHIFTVOL_CONFIG, else /etc/shiftvol/plugin.yaml if it is there,
 * else the packaged one; a key that it leaves out has its default. Environment variables go before the file, options before both.
 * @throws SV_CONFIG naming file, line and key; never with a password in it
 */
export function loadConfig(options: ConfigOptions = {}, env: Environment = process.env): Config {
  const { file, text } = readFirst(
    [options.config, env['SHIFTVOL_CONFIG'] || undefined],
    [SYSTEM_CONFIG, PACKAGED_CONFIG],
  );
  const given = parse(file, text);
  const overrides = new Map<string, string>(); // key path -> the variable or option that set it
  for (const [variable, path] of Object.entries(ENVIRONMENT)) {
    const value = env[variable];
    if (value) put(given, path, value, variable, overrides);
  }
  const transport = env['SHIFTVOL_TRANSPORT_URL'];
  if (transport) {
    put(given, ['bus', 'url'], transport, 'SHIFTVOL_TRANSPORT_URL', overrides);
    put(given, ['bus', 'listen'], [transport], 'SHIFTVOL_TRANSPORT_URL', overrides);
  }
  if (options.stateDir !== undefined) put(given, ['state_dir'], options.stateDir, '--state-dir', overrides);
  if (options.runDir !== undefined) put(given, ['run_dir'], options.runDir, '--run-dir', overrides);
  try {
    const shape = schema(given, []);
    return { ...shape, host: shape.host ?? hostname(), poolDir: shape.poolDir ?? `${shape.stateDir}/pool`, file };
  } catch (error) {
    throw error instanceof Misfit ? misfit(error, file, text, overrides) : error;
  }
}

function readFirst(named: readonly (string | undefined)[], usual: readonly string[]): { file: string; text: string } {
  const asked = named.find(n => n !== undefined);
  for (const file of asked === undefined ? usual : [asked]) {
    try {
      return { file, text: readFileSync(file, 'utf8') };
    } catch (error) {
      const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
      if (missing && asked === undefined) continue;
      throw new ShiftvolError('SV_CONFIG', `Cannot read the configuration "${file}"`, {
        field: 'config',
        remedy: missing ? 'name a file that exists with --config or SHIFTVOL_CONFIG' : 'make it a readable file',
        cause: error,
      });
    }
  }
  throw new ShiftvolError('SV_CONFIG', `Cannot find a configuration: neither ${usual.join(' nor ')} is there`, {
    field: 'config',
  });
}

function parse(file: string, text: string): Record<string, unknown> {
  if (file === PACKAGED_CONFIG && isAsReleased(text)) return {};
  // An empty document is an error to the parser, and no configuration to us.
  if (text.split('\n').every(line => /^\s*(?:#|$)/.test(line))) return {};
  const { load, YAMLException } = yaml();
  try {
    const value = load(text, { filename: file, maxAliases: 100 });
    if (value === null) return {};
    if (typeof value === 'object' && !Array.isArray(value)) return { ...value };
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error;
    const line = error.mark === undefined ? undefined : error.mark.line + 1;
    throw new ShiftvolError('SV_CONFIG', `Cannot read the configuration ${at(file, line)}: ${error.reason}`, {
      field: 'config',
      remedy: 'correct the YAML there',
    });
  }
  throw new ShiftvolError('SV_CONFIG', `Cannot read the configuration ${file}: a mapping of keys is accepted`, {
    field: 'config',
  });
}

/** Sets one value, making the mappings on the way. Something on the way that is no mapping is left for the schema to refuse. */
function put(
  root: Record<string, unknown>,
  path: readonly string[],
  value: unknown,
  source: string,
  overrides: Map<string, string>,
): void {
  let at: Record<string, unknown> = root;
  for (const key of path.slice(0, -1)) {
    const next = at[key] ?? {};
    if (typeof next !== 'object' || Array.isArray(next)) return;
    const copy: Record<string, unknown> = { ...next };
    at[key] = copy;
    at = copy;
  }
  const last = path.at(-1);
  if (last === undefined) return;
  at[last] = value;
  overrides.set(showPath(path), source);
}

function misfit(error: Misfit, file: string, text: string, overrides: ReadonlyMap<string, string>): ShiftvolError {
  const key = showPath(error.path);
  const source = [...overrides].find(([path]) => key === path || key.startsWith(`${path}[`))?.[1];
  const where = source ?? at(file, lineOf(text, error.path));
  return new ShiftvolError('SV_CONFIG', `Cannot use the configuration ${where}: "${key}": ${error.message}`, {
    field: key,
    remedy: source ? `correct ${source}` : error.unknownKey ? 'correct or remove the key' : 'correct the value',
  });
}

const at = (file: string, line: number | undefined) => (line === undefined ? file : `${file}:${line}`);
