/** What a machine must be for a change, and the refusals where it is not. */
import type { InstanceRef } from '../../engine/model.ts';
import { ShiftvolError } from '../../errors.ts';
import { overlaps, showRange } from '../../idmap/range.ts';
import { statxIfThere } from '../../kernel/statx.ts';
import type { MachineSpec, PowerState } from '../machines.ts';
import { uuidOf, volatileIdmaps } from './instance.ts';
import { MADE_KEY, rootPathOf } from './machine-config.ts';
import { powerOf } from './machine-state.ts';
import type { LxdInstance } from './wire.ts';

export function requireOurs({ name, config }: LxdInstance): void {
  if (config[MADE_KEY] !== undefined) return;
  throw new ShiftvolError('SV_USAGE', `Cannot change instance "${name}": shiftvol did not make it`, {
    field: 'instance',
    remedy: 'use the runtime’s own tools',
  });
}

export function requireRoot({ name, config }: LxdInstance): void {
  const rootPath = rootPathOf(config);
  if (rootPath === undefined || statxIfThere(rootPath)?.mountRoot) return;
  throw new ShiftvolError(
    'SV_ATTACHMENT_NOT_FOUND',
    `Cannot start instance "${name}": its root file system is not mounted at "${rootPath}"`,
    { remedy: '"shiftvol recover" mounts it again, and "openstack server reboot --hard" brings its volumes with it' },
  );
}

export function clash({ name, uuid, idRange }: MachineSpec, other: LxdInstance): ShiftvolError | undefined {
  if (uuidOf(other) === uuid) return exists({ name, uuid }, other);
  const taken = volatileIdmaps(other)
    .flat()
    .map(({ hostId: start, count }) => ({ start, count }))
    .find(range => overlaps(range, idRange));
  if (!taken) return undefined;
  return new ShiftvolError(
    'SV_RANGE_TAKEN',
    `Cannot make instance "${name}": "${other.name}" has ids ${showRange(taken)}, which overlap ${showRange(idRange)}`,
    { field: 'idRange', remedy: 'reserve another range' },
  );
}

export function exists({ name, uuid }: Pick<MachineSpec, 'name' | 'uuid'>, other: LxdInstance): ShiftvolError {
  return new ShiftvolError(
    'SV_INSTANCE_EXISTS',
    `Cannot make instance "${name}" (${uuid}): there is "${other.name}" with uuid ${uuidOf(other) ?? 'none'} in project "${other.project}"`,
    { field: 'name', remedy: 'remove that, or give it another name' },
  );
}

export function notFound({ ref, project }: InstanceRef): ShiftvolError {
  return new ShiftvolError(
    'SV_INSTANCE_NOT_FOUND',
    `Cannot find instance "${ref}"${project === undefined ? '' : ` in project "${project}"`}`,
    { field: 'instance' },
  );
}

export function requireState(instance: LxdInstance, verb: string, accepted: PowerState): void {
  const state = powerOf(instance.status);
  if (state === accepted) return;
  throw new ShiftvolError(
    'SV_USAGE',
    `Cannot ${verb} instance "${instance.name}": it is ${state}, ${accepted} is accepted`,
    {
      field: 'instance',
    },
  );
}
