/** Cinder's volumes in an instance: Nova's connection_info to commands of the engine. */
import type { Attachment } from '../engine/model.ts';
import { isError, ShiftvolError } from '../errors.ts';
import { keyOf, refOf } from './instances.ts';
import type { NovaInstance, VolumeMapping } from './model.ts';
import type { Call, Nova } from './ports.ts';
import { targetOf } from './target.ts';

type Volume = Omit<VolumeMapping, 'device'> & { readonly encryption?: unknown };

/**
 * Attached already is success, at whatever path; where its mount is gone (a reboot of the host) it is mounted again.
 * @throws what the engine throws; SV_CONNECTION_INFO, SV_TARGET_INVALID
 */
export async function attach(nova: Nova, instance: NovaInstance, volume: Volume, { signal }: Call): Promise<void> {
  const volumeId = volumeHere(nova, instance, volume.volumeId);
  const { connection, secrets } = await nova.connectors.read(infoOf(volume, volumeId), volume.encryption);
  const target = find(nova, instance, volumeId)?.plan.target ?? (await targetOf(nova, instance, volumeId, signal));
  await nova.engine.execute(
    {
      action: 'attach',
      instance: refOf(instance),
      target,
      source: { kind: 'connection', connection },
      readOnly: connection.readOnly,
      volumeId,
      secrets,
    },
    signal,
  );
}

/** One after the other: one may be mounted below another, in the order in which Nova has them. */
export async function attachAll(
  nova: Nova,
  instance: NovaInstance,
  volumes: readonly VolumeMapping[],
  call: Call,
): Promise<void> {
  for (const volume of volumes) await attach(nova, instance, volume, call);
}

/**
 * A volume that is the root file system is let go of where the instance is stopped.
 * @throws SV_ATTACHMENT_NOT_FOUND; SV_BUSY: a process uses it, or the instance runs on it
 */
export async function detach(nova: Nova, instance: NovaInstance, volumeId: string, { signal }: Call): Promise<void> {
  const ref = refOf(instance);
  const found = find(nova, instance, volumeId)?.plan;
  if (found?.role === 'root')
    await nova.engine.execute({ action: 'destroy', instance: ref, target: '/', lazy: false }, signal);
  else
    await nova.engine.execute(
      { action: 'detach', instance: ref, volumeId: found?.volumeId ?? volumeId, lazy: false },
      signal,
    );
}

/** Lets go of every volume that this host has for the instance, also the root if that is one. None is success. */
export async function detachAll(nova: Nova, instance: NovaInstance, call: Call): Promise<void> {
  const volumes = attachments(nova, instance).filter(a => a.plan.source.kind !== 'template');
  for (const { plan } of rootFirst(volumes).toReversed()) {
    try {
      if (plan.role === 'root' || plan.volumeId === undefined)
        await nova.engine.execute(
          { action: 'destroy', instance: refOf(instance), target: plan.target, lazy: false },
          call.signal,
        );
      else await detach(nova, instance, plan.volumeId, call);
    } catch (error) {
      if (!isError(error, 'SV_ATTACHMENT_NOT_FOUND')) throw error;
    }
  }
}

/** As it was, from what the journal had of it; without secrets. */
export async function putBack(
  nova: Nova,
  instance: NovaInstance,
  { plan: { role, target, source, readOnly, volumeId } }: Attachment,
  { signal }: Call,
): Promise<void> {
  const about = { instance: refOf(instance), source, ...(volumeId === undefined ? {} : { volumeId }) };
  if (role === 'root') await nova.engine.execute({ action: 'spawn', ...about }, signal);
  else await nova.engine.execute({ action: 'attach', ...about, target, readOnly }, signal);
}

/** The order in which they are mounted: volumes may be mounted below the root. */
export function rootFirst(all: readonly Attachment[]): readonly Attachment[] {
  return all.toSorted((a, b) => Number(b.plan.role === 'root') - Number(a.plan.role === 'root'));
}

export function attachments(nova: Nova, instance: NovaInstance): readonly Attachment[] {
  return nova.engine.list(keyOf(instance));
}

export function rootOf(nova: Nova, instance: NovaInstance): Attachment | undefined {
  return attachments(nova, instance).find(({ plan }) => plan.role === 'root');
}

/** Of one that is to move. @throws SV_INSTANCE_NOT_FOUND */
export function requireRootHere(nova: Nova, instance: NovaInstance): Attachment {
  const root = rootOf(nova, instance);
  if (root) return root;
  throw new ShiftvolError(
    'SV_INSTANCE_NOT_FOUND',
    `Cannot move "${instance.uuid}": no root file system of it is on this host`,
  );
}

/** Its id on this host. One that Cinder has moved is another one here, and goes on being called what it was. */
export function volumeHere(nova: Nova, instance: NovaInstance, volumeId: string): string {
  return find(nova, instance, volumeId)?.plan.volumeId ?? volumeId;
}

/** Connections are told apart by the volume's id: by the one that is known here. */
export function infoOf(
  { connectionInfo, volumeId }: Pick<VolumeMapping, 'connectionInfo' | 'volumeId'>,
  here: string,
): unknown {
  const isRenamed = here !== volumeId && typeof connectionInfo === 'object' && connectionInfo !== null;
  return isRenamed ? { ...connectionInfo, serial: here } : connectionInfo;
}

function find(nova: Nova, instance: NovaInstance, volumeId: string): Attachment | undefined {
  const all = attachments(nova, instance);
  return all.find(({ plan }) => plan.volumeId === volumeId) ?? all.find(({ plan }) => plan.formerVolumeId === volumeId);
}
