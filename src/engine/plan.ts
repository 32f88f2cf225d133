import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { mapForInstance } from '../idmap/compose.ts';
import type { Idmap } from '../idmap/idmap.ts';
import { fsId, hostId } from '../idmap/ids.ts';
import type { AttachCommand, Attachment, AttachmentId, InstanceKey, Plan, SpawnCommand } from './model.ts';
import type { Allocation, Backend, Instance, Template } from './ports.ts';

/** The device names that we give begin with this, so that `recover` knows ours among a container's devices. */
export const DEVICE_PREFIX = 'sv-';

/** Where mounts are placed. Volumes: nobody but root gets there. Roots: LXC opens the path from inside the user namespace. */
export const volumesDir = (runDir: string): string => join(runDir, 'volumes');
export const rootsDir = (runDir: string): string => join(runDir, 'roots');

export function attachmentId(instance: InstanceKey, target: string): AttachmentId {
  return createHash('sha256').update(`${instance}\0${target}`).digest('hex').slice(0, 16) as AttachmentId;
}

export type PlanContext = {
  readonly runDir: string;
  readonly backend: Backend;
  readonly template?: Template;
  readonly existing?: Attachment;
};

export function planAttach(command: AttachCommand, target: string, instance: Instance, context: PlanContext): Plan {
  const id = attachmentId(instance.key, target);
  const { source } = command;
  const volumeId = command.volumeId ?? (source.kind === 'connection' ? source.connection.volumeId : undefined);
  const idBase = context.template?.idBase ?? (source.kind === 'template' ? 0 : (source.idBase ?? 0));
  return {
    id,
    role: 'volume',
    instance: instance.key,
    ref: { ref: instance.name, project: instance.project },
    runtime: instance.runtime,
    target,
    source,
    readOnly: isReadOnly(command),
    ...(volumeId === undefined ? {} : { volumeId }),
    ...imageOf(id, command.source, context),
    idBase,
    idmap: mapForInstance(idBase, instance.idmap),
    instanceMap: instance.idmap,
    mountPath: join(volumesDir(context.runDir), id),
    deviceName: `${DEVICE_PREFIX}${id}`,
    handoff: 'device',
  };
}

/** As asked, or because the service gives the volume for reading only. */
export function isReadOnly({ source, readOnly }: AttachCommand): boolean {
  return readOnly || (source.kind === 'connection' && source.connection.readOnly);
}

export function planSpawn(
  command: SpawnCommand,
  key: InstanceKey,
  instanceMap: Idmap,
  template: Template,
  context: PlanContext,
): Plan {
  const id = attachmentId(key, '/');
  const { sizeBytes } = command;
  const source = {
    kind: 'template',
    template: template.name,
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
  } as const;
  return {
    id,
    role: 'root',
    instance: key,
    ref: command.instance,
    runtime: '',
    target: '/',
    source,
    readOnly: false,
    ...imageOf(id, source, context),
    idBase: template.idBase,
    idmap: mapForInstance(template.idBase, instanceMap),
    instanceMap,
    // The name is a secret: the directory above must be searchable by the container's own ids. It stays the same for the instance's life.
    mountPath: context.existing?.plan.mountPath ?? join(rootsDir(context.runDir), randomBytes(16).toString('hex')),
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

function imageOf(id: AttachmentId, source: AttachCommand['source'], { backend, template, existing }: PlanContext) {
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
