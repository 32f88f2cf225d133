/**
 * Adding and removing a disk device: look at the present state, change it if it is still that, wait. A change that was sent is waited
 * for (some 20 ms) whatever the signal says: LXD goes on with it, and a removal that follows must find what it has to remove.
 */
import { posix } from 'node:path';
import { isError, ShiftvolError } from '../../errors.ts';
import type { LxdClient } from './client.ts';
import { foundInside, requireDirectoryOrNothing } from './inside.ts';
import { instancePath, type Look } from './lookup.ts';
import { LxdError } from './lxd-error.ts';
import { type LxdInstance, lxdInstance, type Strings } from './wire.ts';

export type Place = { readonly project: string; readonly name: string };
export type NewDevice = {
  readonly name: string;
  readonly hostPath: string;
  readonly target: string;
  readonly readOnly: boolean;
};
export type Context = { readonly client: LxdClient; readonly signal?: AbortSignal | undefined };

/**
 * One try. There already and equal is success. `root`: where the container's files are seen from here, if they are. `look`: a state to go
 * by, if there is one.
 * @throws SV_INSTANCE_NOT_FOUND; SV_TARGET_TAKEN; SV_TARGET_INVALID: a symlink; LxdError with LXD's words, and nothing was changed then
 */
export async function addOnce(
  context: Context,
  place: Place,
  device: NewDevice,
  root: string | undefined,
  look: Look | undefined,
): Promise<void> {
  const { instance, etag } = look ?? (await getInstance(context, place));
  const wanted = lxdDevice(device);
  const present = instance.devices[device.name];
  if (present && sameDevice(present, wanted)) return;
  requireFree(instance, device, present);
  await requirePlaceInside(context, place, device.target, root);
  try {
    await context.client.change('PATCH', instancePath(place.project, place.name), {
      // LXD takes a PATCH without a description as one that empties it.
      body: { description: instance.description, devices: { [device.name]: wanted } },
      etag,
    });
  } catch (error) {
    if (error instanceof LxdError && error.status === 404) throw notFound(place, error);
    if (error instanceof LxdError && error.status >= 400) await takeBack(context, place, device);
    throw withRemedy(error);
  }
}

/** One try. No such device, and no such instance, is success. */
export async function removeOnce(context: Context, place: Place, name: string, look: Look | undefined): Promise<void> {
  try {
    const { instance, etag } = look ?? (await getInstance(context, place));
    if (!(name in instance.devices)) return;
    const { [name]: _, ...devices } = instance.devices;
    await context.client.change('PUT', instancePath(place.project, place.name), {
      body: { ...instance.writable, devices },
      etag,
    });
  } catch (error) {
    if (isGone(error)) return;
    throw error;
  }
}

function lxdDevice({ hostPath, target, readOnly }: NewDevice): Strings {
  // Without `shift`: the mount has its map. Required, as by default: a container whose volume is not there does not start, instead of
  // writing into an empty directory.
  return { type: 'disk', source: hostPath, path: target, ...(readOnly ? { readonly: 'true' } : {}) };
}

function sameDevice(a: Strings, b: Strings): boolean {
  const facts = ({ type, source, path, readonly }: Strings) =>
    JSON.stringify([type, source, path && normal(path), readonly === 'true' || readonly === '1']);
  return facts(a) === facts(b);
}

async function getInstance({ client, signal }: Context, { project, name }: Place): Promise<Look> {
  try {
    const { metadata, etag } = await client.get(instancePath(project, name), signal);
    return { instance: lxdInstance(metadata), etag };
  } catch (cause) {
    if (!(cause instanceof LxdError) || cause.status !== 404) throw cause;
    throw notFound({ project, name }, cause);
  }
}

function notFound({ project, name }: Place, cause: LxdError): ShiftvolError {
  return new ShiftvolError('SV_INSTANCE_NOT_FOUND', `Cannot find instance "${name}" in project "${project}"`, {
    field: 'instance',
    cause,
  });
}

/** LXD itself looks at the instance's own devices only, not at those of its profiles. */
function requireFree(instance: LxdInstance, device: NewDevice, present: Strings | undefined): void {
  const [name, other] = present
    ? [device.name, present]
    : (Object.entries(instance.expandedDevices).find(
        ([, { path }]) => path !== undefined && normal(path) === device.target,
      ) ?? []);
  if (name === undefined || other === undefined) return;
  const what = present ? `has "${other['source'] ?? ''}" at "${other['path'] ?? ''}"` : 'is there';
  throw new ShiftvolError(
    'SV_TARGET_TAKEN',
    `Cannot attach at ${instance.name}:${device.target}: device "${name}" (${other['type'] ?? 'unknown'}) ${what}`,
    { field: 'target', remedy: 'choose another target, or remove that device' },
  );
}

function normal(path: string): string {
  return posix.normalize(`/${path}`).replace(/(?<=.)\/$/, '');
}

async function requirePlaceInside(
  { client, signal }: Context,
  { project, name }: Place,
  target: string,
  root: string | undefined,
): Promise<void> {
  if (root !== undefined) {
    requireDirectoryOrNothing(foundInside(root, target), target, target, name);
    return;
  }
  // It is stopped: LXD looks into its storage, a directory at a time. Nothing there is the end of the way.
  const base = `/1.0/instances/${encodeURIComponent(name)}/files?project=${encodeURIComponent(project)}&path=`;
  for (const path of ancestors(target)) {
    const type = await client.fileType(`${base}${encodeURIComponent(path)}`, signal);
    if (type === undefined) return;
    requireDirectoryOrNothing(type === 'directory' || type === 'symlink' ? type : 'file', path, target, name);
  }
}

/** `/a`, `/a/b`, `/a/b/c` for the last of them. */
function ancestors(path: string): readonly string[] {
  const names = path.slice(1).split('/');
  return names.map((_, i) => `/${names.slice(0, i + 1).join('/')}`);
}

/** LXD undoes what it could not do (5.0.2 does, tried); should a version leave the device in the configuration, it goes. */
async function takeBack({ client }: Context, place: Place, device: NewDevice): Promise<void> {
  const regardless = { client };
  try {
    const { instance } = await getInstance(regardless, place);
    const left = instance.devices[device.name];
    if (left && sameDevice(left, lxdDevice(device))) await removeOnce(regardless, place, device.name, undefined);
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

function isGone(error: unknown): boolean {
  return isError(error, 'SV_INSTANCE_NOT_FOUND') || (error instanceof LxdError && error.status === 404);
}

/** LXD says what failed, and not what to do about it. */
const REMEDIES = [
  {
    words: /inside container/,
    remedy:
      'see that the target’s parents are directories; where the container made "/" private (mount --make-rprivate), restart it',
  },
  {
    // Its own mount of the source, left when it was killed in the middle of a change: it cannot get past that by itself.
    words: /\/devices\/.*: device or resource busy/,
    remedy: 'LXD was killed during a change: unmount that path and try again',
  },
] as const;

function withRemedy(error: unknown): unknown {
  if (!(error instanceof LxdError)) return error;
  const known = REMEDIES.find(({ words }) => words.test(error.message));
  return known ? new LxdError(error.status, error.message, { remedy: known.remedy, cause: error.cause }) : error;
}
