/** Which OpenStack, and as whom: clouds.yaml, secure.yaml and OS_* variables, read as openstacksdk does. */
import { ShiftvolError } from '../errors.ts';
import { type CloudConfig, readCloud } from './cloud-config.ts';
import { type CloudFiles, readCloudFiles } from './cloud-files.ts';

export type { Auth, CloudConfig, Interface, Scope } from './cloud-config.ts';
export type { CloudFiles } from './cloud-files.ts';

export type Environment = Readonly<Record<string, string | undefined>>;
export type FindCloud = {
  readonly env: Environment;
  /** Name in clouds.yaml. Default: $OS_CLOUD, else the cloud that OS_* describe, else the only one there is. */
  readonly cloud?: string | undefined;
  /** Instead of looking in the usual places. */
  readonly files?: CloudFiles;
};

/** Name that openstacksdk gives to the cloud that is described by OS_* variables. */
const FROM_ENVIRONMENT = 'envvars';
/** Variables that say where to look, and nothing of a cloud. */
const POINTERS = new Set(['OS_CLOUD', 'OS_CLIENT_CONFIG_FILE', 'OS_CLIENT_SECURE_FILE', 'OS_CLIENT_VENDOR_FILE']);

/**
 * Variables describe a cloud of their own and change nothing of one in a file, as with openstacksdk.
 * @throws SV_CONFIG naming file, cloud and key, never a secret
 */
export function findCloud({ env, cloud, files }: FindCloud): CloudConfig {
  const wanted = cloud ?? (env['OS_CLOUD'] || undefined);
  const described = fromEnvironment(env);
  if (described && (wanted === undefined || wanted === FROM_ENVIRONMENT))
    return readCloud(FROM_ENVIRONMENT, described, 'the OS_* variables');
  const found = readCloudFiles(env, files);
  const names = Object.keys(found.clouds);
  const name = wanted ?? (names.length === 1 ? names[0] : undefined);
  if (name === undefined)
    throw new ShiftvolError(
      'SV_CONFIG',
      names.length === 0
        ? `Cannot find an OpenStack: there are neither OS_* variables nor a clouds.yaml (${found.looked.join(', ')})`
        : `Cannot tell which OpenStack is meant: ${found.file} has ${names.join(', ')}`,
      { field: 'openstack.cloud', remedy: 'set OS_CLOUD, or "openstack: cloud:" in plugin.yaml' },
    );
  const given = found.clouds[name];
  if (given === undefined)
    throw new ShiftvolError(
      'SV_CONFIG',
      `Cannot find the cloud "${name}": ${found.file === undefined ? `there is no clouds.yaml (${found.looked.join(', ')})` : `${found.file} has ${names.join(', ') || 'none'}`}`,
      {
        field: 'openstack.cloud',
        remedy: 'add it to clouds.yaml, or name another with OS_CLOUD or "openstack: cloud:"',
      },
    );
  return readCloud(name, given, found.file ?? 'clouds.yaml');
}

/** OS_USERNAME and the like as clouds.yaml would have them; undefined where none of them says how to authenticate. */
function fromEnvironment(env: Environment): Record<string, unknown> | undefined {
  const entries = Object.entries(env).filter(([key, value]) => key.startsWith('OS_') && !POINTERS.has(key) && value);
  if (!entries.some(([key]) => key === 'OS_AUTH_URL')) return undefined;
  return Object.fromEntries(entries.map(([key, value]) => [key.slice(3).toLowerCase(), value]));
}
