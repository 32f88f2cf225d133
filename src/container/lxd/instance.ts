import { readFileSync } from 'node:fs';
import type { InstanceKey } from '../../engine/model.ts';
import type { Instance } from '../../engine/ports.ts';
import { ShiftvolError } from '../../errors.ts';
import type { Idmap } from '../../idmap/idmap.ts';
import { parseIdmap, parseProcMaps } from '../../idmap/parse.ts';
import { isNodeErrno } from '../../kernel/errno.ts';
import { rootPathOf } from './machine-config.ts';
import type { LxdInstance, ServerFacts } from './wire.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Nova's uuid: what its driver wrote into `user.nova_uuid`, or the name where that is one. Lower case. */
export function uuidOf({ name, config }: LxdInstance): string | undefined {
  return [config['user.nova_uuid'], name]
    .map(text => text?.toLowerCase())
    .find(text => text !== undefined && UUID.test(text));
}

/** The uuid, since Nova may rename what it likes; else the name, after its project outside the default one. */
export function keyOf(instance: LxdInstance): InstanceKey {
  const { name, project } = instance;
  return (uuidOf(instance) ?? (project === 'default' ? name : `${project}/${name}`)) as InstanceKey;
}

export function isHere({ location }: LxdInstance, { member }: ServerFacts): boolean {
  return location === 'none' || location === '' || location === member;
}

/**
 * Returns if the instance can take a mapped volume.
 * @throws SV_INSTANCE_NOT_FOUND: it is on another member of the cluster; SV_RUNTIME_UNSUPPORTED: a virtual machine, privileged, or no
 *   idmapped mounts on this host
 */
export function requireUsable(instance: LxdInstance, server: ServerFacts): void {
  const { name, type, location, expandedConfig } = instance;
  if (!isHere(instance, server))
    throw new ShiftvolError(
      'SV_INSTANCE_NOT_FOUND',
      `Cannot use instance "${name}": it is on "${location}", this is "${server.member}"`,
      { field: 'instance', remedy: `run shiftvol on "${location}"` },
    );
  const refuse = (what: string, remedy: string) => {
    throw new ShiftvolError('SV_RUNTIME_UNSUPPORTED', `Cannot use instance "${name}": ${what}`, {
      field: 'instance',
      remedy,
    });
  };
  if (type !== 'container')
    refuse(`it is a ${type}, containers are accepted`, 'attach the volume to it as a block device');
  if (isTrue(expandedConfig['security.privileged']))
    refuse(
      'it is privileged, so that its root is the host’s; unprivileged containers are accepted',
      `set security.privileged to false for "${name}" and restart it`,
    );
  if (!server.idmappedMounts)
    refuse(
      `${server.name} ${server.version} reports no idmapped mounts on this host`,
      'use Linux 5.12 or later with a file system that can be mapped, and LXC 5 or later',
    );
}

/** LXD's and Incus' booleans. */
function isTrue(text: string | undefined): boolean {
  return text !== undefined && ['true', '1', 'yes', 'on'].includes(text.toLowerCase());
}

export function toInstance(
  runtime: string,
  found: LxdInstance,
  live: { pid: number; idmap: Idmap } | undefined,
): Instance {
  const uuid = uuidOf(found);
  const rootPath = rootPathOf(found.config);
  return {
    key: keyOf(found),
    runtime,
    project: found.project,
    name: found.name,
    ...(uuid === undefined ? {} : { uuid }),
    ...(rootPath === undefined ? {} : { rootPath }),
    running: live !== undefined,
    ...(live ?? { idmap: nextIdmap(found) }),
  };
}

/** Of a process, if it is there. */
export function liveIdmap(proc: string, pid: number): Idmap | undefined {
  try {
    const [uid, gid] = (['uid_map', 'gid_map'] as const).map(file => readFileSync(`${proc}/${pid}/${file}`, 'utf8'));
    return parseProcMaps(uid ?? '', gid ?? '');
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

/** What LXD will give the instance at its next start; decided when it is created or its `security.idmap.*` change. */
function nextIdmap(instance: LxdInstance): Idmap {
  const [first] = volatileIdmaps(instance);
  if (first) return first;
  throw new ShiftvolError(
    'SV_RUNTIME',
    `Cannot tell the ids of instance "${instance.name}": it has no volatile.idmap.next`,
    {
      field: 'instance',
      remedy: 'start it once',
    },
  );
}

/** The next one first, then what it has or had. Without those of a privileged instance, which are empty lists. */
export function volatileIdmaps({ config }: LxdInstance): readonly Idmap[] {
  return ['volatile.idmap.next', 'volatile.idmap.current', 'volatile.last_state.idmap']
    .map(key => config[key])
    .filter(text => text !== undefined && text !== '' && text !== '[]')
    .map(text => withoutRepeats(parseIdmap(text ?? '', { form: 'lxd-json' })));
}

/** An id shared with the host (`raw.idmap: both 1000 1000`) stands there twice, each time for both kinds. */
function withoutRepeats(map: Idmap): Idmap {
  return [...new Map(map.map(e => [`${e.kind} ${e.fsId} ${e.hostId} ${e.count}`, e])).values()];
}
