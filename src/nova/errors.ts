/** Our errors as Nova's, by whose classes it decides what happens next: reschedule, roll back, go on, give up. */
import { RemoteError } from '../bus/rpc/endpoint.ts';
import { asError, type Code, explain } from '../errors.ts';

/** What a call was about, for the fields of Nova's classes. */
export type Subject = {
  readonly method: string;
  readonly instance?: string;
  readonly volume?: string;
  readonly image?: string;
  /** A label: `/dev/sdb` */
  readonly device?: string;
};

/** A class of nova.exception, and the fields that its own text would be made of. */
type Kind = (
  subject: Subject,
  reason: string,
) => { readonly name: string; readonly kwargs: Readonly<Record<string, unknown>> };

const withReason =
  (name: string): Kind =>
  (_, reason) => ({ name, kwargs: { reason } });
const withInstance =
  (name: string): Kind =>
  ({ instance }, reason) => ({ name, kwargs: { instance_id: instance, reason } });
const withVolume =
  (name: string): Kind =>
  ({ volume }, reason) => ({ name, kwargs: { volume_id: volume, reason } });
const withImage =
  (name: string): Kind =>
  ({ image }, reason) => ({ name, kwargs: { image_id: image, reason } });

const instanceNotFound = withInstance('InstanceNotFound');
const instanceExists: Kind = ({ instance }) => ({ name: 'InstanceExists', kwargs: { name: instance } });
const imageUnacceptable = withImage('ImageUnacceptable');
const imageNotFound = withImage('ImageNotFound');
const volumeNotFound = withVolume('VolumeNotFound');
const notAttached: Kind = ({ device, volume }) => ({ name: 'DiskNotFound', kwargs: { location: device || volume } });
const detachFailed: Kind = ({ device, volume }, reason) => ({
  name: 'DeviceDetachFailed',
  kwargs: { device: device || volume, reason },
});
const invalidVolume = withReason('InvalidVolume');
/** At a boot Nova gives up on it at once, instead of trying two more hosts. */
const invalidInput = withReason('InvalidInput');
const deployFailure = withReason('InstanceDeployFailure');
const resizeError = withReason('ResizeError');
const migrationError = withReason('MigrationError');
const preCheck = withReason('MigrationPreCheckError');

type Family = { readonly other: Kind; readonly codes: Partial<Record<Code, Kind>> };
const family = (other: Kind, codes: Family['codes'] = {}): Family => ({ other, codes });

const EVERYWHERE = {
  SV_INSTANCE_NOT_FOUND: instanceNotFound,
  SV_INSTANCE_EXISTS: instanceExists,
  SV_MESSAGE: invalidInput,
} as const satisfies Family['codes'];
const migrating = family(migrationError, { SV_MESSAGE: migrationError });
const checking = family(preCheck, { SV_MESSAGE: preCheck });
const resizing = family(migrationError, { SV_USAGE: resizeError, SV_MESSAGE: migrationError });

const BY_METHOD: Readonly<Record<string, Family>> = {
  spawn: family(deployFailure, {
    SV_USAGE: invalidInput,
    SV_TARGET_INVALID: invalidInput,
    SV_CONNECTION_INFO: invalidInput,
    SV_IMAGE_REFUSED: imageUnacceptable,
    SV_CHECKSUM: imageUnacceptable,
    SV_OPENSTACK_NOT_FOUND: imageNotFound,
    // Of this very call: not a thing that Nova knows and we lost.
    SV_INSTANCE_NOT_FOUND: deployFailure,
  }),
  attach_volume: family(withVolume('VolumeAttachFailed'), {
    SV_USAGE: invalidVolume,
    SV_MESSAGE: invalidVolume,
    SV_TARGET_INVALID: invalidVolume,
    SV_CONNECTION_INFO: invalidVolume,
    SV_IMAGE_REFUSED: invalidVolume,
    SV_VOLUME_NOT_FOUND: volumeNotFound,
  }),
  detach_volume: family(detachFailed, {
    SV_ATTACHMENT_NOT_FOUND: notAttached,
    // To a runtime that has lost the instance nothing is attached.
    SV_INSTANCE_NOT_FOUND: notAttached,
  }),
  extend_volume: family(invalidVolume, {
    SV_VOLUME_NOT_FOUND: volumeNotFound,
    SV_ATTACHMENT_NOT_FOUND: volumeNotFound,
  }),
  swap_volume: family(withReason('VolumeRebaseFailed')),
  power_off: family(withReason('InstancePowerOffFailure')),
  power_on: family(withReason('InstancePowerOnFailure')),
  reboot: family(withReason('InstanceRebootFailure')),
  suspend: family(withReason('InstanceSuspendFailure')),
  resume: family(withReason('InstanceResumeFailure')),
  quiesce: family(withInstance('InstanceQuiesceNotSupported')),
  get_console_output: family(withInstance('ConsoleLogOutputException')),
  snapshot: family(withReason('NovaException'), { SV_OPENSTACK_NOT_FOUND: imageNotFound }),
  migrate_disk_and_power_off: resizing,
  finish_migration: resizing,
  confirm_migration: migrating,
  finish_revert_migration: migrating,
  check_can_live_migrate_destination: checking,
  check_can_live_migrate_source: checking,
  pre_live_migration: migrating,
  live_migration: migrating,
  post_live_migration: migrating,
  post_live_migration_at_source: migrating,
  post_live_migration_at_destination: migrating,
  rollback_live_migration_at_source: migrating,
  rollback_live_migration_at_destination: migrating,
};
const OTHERS = family(withReason('NovaException'));

/** The text is ours with its causes and what to do, and stands for the class's own. */
export function toRemote(error: unknown, subject: Subject): RemoteError {
  if (error instanceof RemoteError) return error;
  const { codes, other } = BY_METHOD[subject.method] ?? OTHERS;
  const known = { ...EVERYWHERE, ...codes }[asError(error).code as keyof typeof EVERYWHERE] ?? other;
  // What could not be taken back must not look like one of those failures after which Nova takes an instance for what it was.
  const kind = error instanceof SuppressedError ? OTHERS.other : known;
  const text = explain(error);
  const { name, kwargs } = kind(subject, text);
  return new RemoteError(name, text, { kwargs: defined(kwargs), cause: error });
}

/** What Nova itself raises for a method that a driver has not. */
export function notImplemented(method: string, why: string): RemoteError {
  const text = `${method} is not supported by shiftvol${why === '' ? '' : `: ${why}`}`;
  return new RemoteError('NotImplementedError', text, { module: 'builtins' });
}

function defined(fields: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
