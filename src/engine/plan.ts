import { hash, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { mapForInstance } from '../idmap/compose.ts';
import type { Idmap } from '../idmap/idmap.ts';
import { fsId, hostId } from '../idmap/ids.ts';
import {
  type AttachCommand,
  type Attachment,
  type AttachmentId,
  type InstanceKey,
  type Plan,
  rootSource,
  type Source,
  type SpawnCommand,
} from './model.ts';
import type { Allocation, Backend, Instance, Template } from './ports.ts';

/** The device names that we give begin with this, so that `recover` knows ours among a container's devices. */
export const DEVICE_PREFIX = 'sv-';

/** Where mounts are placed. Volumes: nobody but root gets there. Roots: LXC opens the path from inside the user namespace. */
export const volumesDir = (runDir: string): string => join(runDir, 'volumes');
export const rootsDir = (runDir: string): string => join(runDir, 'roots');

export function attachmentId(instance: InstanceKey, target: string): AttachmentId {
  return hash('sha256', `${instance}\0${target}`).slice(0, 16) as AttachmentId;
}

export type PlanContext = {
  readonly runDir: string;
  readonly backend: Backend;
  readonly template?: Template;
  readonly existing?: Attachment;
  /** Where the runtime expects the root file system of an instance that it has already. */
  readonly rootPath?: string;
};

export function planAttach(command: AttachCommand, target: string, instance: Instance, context: PlanContext): Plan {
  const id = attachmentId(instance.key, target);
  const { source } = command;
  const idBase = idBaseOf(source, context);
  return {
    id,
    role: 'volume',
    instance: instance.key,
    ref: { ref: instance.name, project: instance.project },
    runtime: instance.runtime,
    target,
    source,
    readOnly: isReadOnly(command),
    ...volumeIdOf(command, source),
    ...imageOf(id, source, context),
    idBase,
    idmap: mapForInstance(idBase, instance.idmap),
    instanceMap: instance.idmap,
    mountPath: join(volumesDir(context.runDir), id),
    deviceName: `${DEVICE_PREFIX}${id}`,
    handoff: 'device',
  };
}

/** As asked, or because the service gives the volume for reading only. */
export function isReadOnly({ source, readOnly }: Pick<AttachCommand, 'source' | 'readOnly'>): boolean {
  return readOnly || (source.kind === 'connection' && source.connection.readOnly);
}

export function planSpawn(command: SpawnCommand, key: InstanceKey, instanceMap: Idmap, context: PlanContext): Plan {
  const id = attachmentId(key, '/');
  const source = rootSource(command);
  const idBase = idBaseOf(source, context);
  const { existing, rootPath } = context;
  return {
    id,
    role: 'root',
    instance: key,
    ref: command.instance,
    runtime: '',
    target: '/',
    source,
    readOnly: isReadOnly({ source, readOnly: false }),
    ...volumeIdOf(command, source),
    ...imageOf(id, source, context),
    idBase,
    idmap: mapForInstance(idBase, instanceMap),
    instanceMap,
    // The name is a secret: the directory above must be searchable by the container's own ids. It stays the same for the instance's life.
    mountPath: rootPath ?? existing?.plan.mountPath ?? join(rootsDir(context.runDir), randomUUID()),
    deviceName: `${DEVICE_PREFIX}${id}`,
    handoff: 'none',
  };
}

/** Ids inside from 0 on, as an allocation gives them. */
export function mapOfAllocation({ uid, gid }: Pick<Allocation, 'uid' | 'gid'>): Idmap {
  return [
    { kind: 'uid', fsId: fsId(0), hostId: hostId(uid.start), count: uid.count },
    { kind: 'gid', fsId: fsId(0), hostId: hostId(gid.start), count: gid.count },
  ];
}

function idBaseOf(source: Source, { template }: PlanContext): number {
  return template?.idBase ?? (source.kind === 'template' ? 0 : (source.idBase ?? 0));
}

function volumeIdOf({ volumeId }: { readonly volumeId?: string }, source: Source): { readonly volumeId?: string } {
  const known = volumeId ?? (source.kind === 'connection' ? source.connection.volumeId : undefined);
  return known === undefined ? {} : { volumeId: known };
}

function imageOf(id: AttachmentId, source: Source, { backend, template, existing }: PlanContext) {
  if (source.kind === 'connection') {
    const { kind, name } = source.connection;
    return { image: { kind, path: name }, snapshotKept: false } as const;
  }
  if (!template || source.kind !== 'template')
    return {
      image: {
        kind: source.kind === 'device' ? 'device' : 'file',
        path: source.kind === 'template' ? '' : source.path,
      },
      snapshotKept: false,
    } as const;
  const snapshot = `${template.name}/${id}`;
  return {
    snapshot,
    snapshotKept: existing?.status.state === 'detached',
    image: { kind: 'file', path: backend.snapshotPath(snapshot) },
    fsType: template.fsType,
  } as const;
}
