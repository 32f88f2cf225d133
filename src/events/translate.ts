/** A notification becomes a command, or is not for us, or is wrong. Pure: the same message and bindings give the same answer. */
import { fill } from '../config/bindings.ts';
import type { ActingEvent, BindingsConfig, ImageBindingConfig, VolumeBindingConfig } from '../config/schema.ts';
import type { Action, Command } from '../engine/model.ts';
import { readCinder } from './cinder.ts';
import type { Happening, HostFilter, IgnoredReason, Reading } from './happening.ts';
import { type Notification, parseNotification } from './notification.ts';
import { readLegacy, readVersioned } from './nova.ts';

export type Translation =
  | {
      readonly kind: 'command';
      readonly command: Command;
      readonly event: ActingEvent;
      /** Bound by "*": a template that does not exist is no error then. */
      readonly wildcard: boolean;
    }
  | { readonly kind: 'ignored'; readonly reason: IgnoredReason }
  | { readonly kind: 'invalid'; readonly reason: string };

/** `leave`: the instance is not here any more. `rebuild`: its root is to be another one. Both are commands by what is configured. */
type Deed = Action | 'leave' | 'rebuild';
type Rule = {
  readonly action: Deed;
  readonly read: (n: Notification, hosts: HostFilter) => Reading;
};
const nova = (action: Deed, kind: Parameters<typeof readVersioned>[0]): Rule => ({
  action,
  read: (n, hosts) => readVersioned(kind, n, hosts),
});
const oldNova = (action: Deed, kind: Parameters<typeof readLegacy>[0]): Rule => ({
  action,
  read: (n, hosts) => readLegacy(kind, n, hosts),
});

/** What each event does. Whether it does is `bindings.events`. */
type ActingRule = Rule & { readonly event: ActingEvent };
const RULES: ReadonlyMap<string, ActingRule> = new Map(
  Object.entries({
    'instance.create.start': nova('spawn', 'create'),
    'instance.create.error': nova('destroy', 'delete'),
    'instance.volume_attach.start': nova('attach', 'volume'),
    'instance.volume_attach.end': nova('attach', 'volume'),
    'instance.volume_detach.start': nova('detach', 'volume'),
    'instance.volume_detach.end': nova('detach', 'volume'),
    'instance.delete.end': nova('destroy', 'delete'),
    'instance.live_migration_post.end': nova('leave', 'gone'),
    'instance.live_migration_rollback_dest.end': nova('leave', 'moved'),
    'instance.resize_confirm.end': nova('leave', 'moved'),
    'instance.shelve_offload.end': nova('leave', 'gone'),
    'instance.rebuild.start': nova('rebuild', 'rebuild'),
    'instance.rebuild.end': nova('leave', 'evacuated'),
    'compute.instance.create.start': oldNova('spawn', 'create'),
    'compute.instance.create.error': oldNova('destroy', 'delete'),
    'compute.instance.volume.attach': oldNova('attach', 'volume'),
    'compute.instance.volume.detach': oldNova('detach', 'volume'),
    'compute.instance.delete.end': oldNova('destroy', 'delete'),
    'compute.instance.live_migration._post.end': oldNova('leave', 'gone'),
    'compute.instance.live_migration.rollback.dest.end': oldNova('leave', 'moved'),
    'compute.instance.resize.confirm.end': oldNova('leave', 'moved'),
    'compute.instance.shelve_offload.end': oldNova('leave', 'gone'),
    'compute.instance.rebuild.start': oldNova('rebuild', 'rebuild'),
    'compute.instance.rebuild.end': oldNova('leave', 'evacuated'),
    'volume.attach.end': { action: 'attach', read: (n, hosts) => readCinder('attach', n, hosts) },
    'volume.detach.start': { action: 'detach', read: (n, hosts) => readCinder('detach', n, hosts) },
    'volume.resize.end': { action: 'extend', read: (n, hosts) => readCinder('resize', n, hosts) },
  } satisfies Record<ActingEvent, Rule>).map(([event, rule]) => [event, { ...rule, event: event as ActingEvent }]),
);

/** Whether an event can do something here, switched on or not. */
export const isActing = (event: string): boolean => RULES.has(event);

export type Translator = (inner: unknown) => Translation;
type Read =
  | Exclude<Reading, { kind: 'happening' }>
  | (Extract<Reading, { kind: 'happening' }> & { readonly rule: ActingRule });

/** What happened, where the event is one that acts, to one of these hosts. */
export function reader(events: BindingsConfig['events'], hosts: HostFilter): (inner: unknown) => Read {
  return inner => {
    const parsed = parseNotification(inner);
    if (!parsed.ok) return { kind: 'invalid', reason: parsed.reason };
    const rule = RULES.get(parsed.value.event_type);
    if (rule === undefined) return { kind: 'ignored', reason: 'other-event' };
    if (events.get(rule.event) !== true) return { kind: 'ignored', reason: 'switched-off' };
    const reading = rule.read(parsed.value, hosts);
    return reading.kind === 'happening' ? { ...reading, rule } : reading;
  };
}

/** The hosts whose notifications are ours: this one, unless `bindings.hosts` names others. */
export function hostsOf(bindings: BindingsConfig, host: string): readonly string[] {
  return bindings.hosts.length > 0 ? bindings.hosts : [host];
}

export function translator(bindings: BindingsConfig, host: string): Translator {
  const read = reader(bindings.events, new Set(hostsOf(bindings, host)));
  return inner => {
    const reading = read(inner);
    if (reading.kind !== 'happening') return reading;
    const { action, event } = reading.rule;
    return bind(action, event, reading.happening, bindings);
  };
}

function bind(deed: Deed, event: ActingEvent, happening: Happening, bindings: BindingsConfig): Translation {
  const action = actionOf(deed, bindings);
  const asked = { instance: { ref: happening.instance }, ...requestId(action, happening) };
  const command = (c: Command, wildcard = false): Translation => ({ kind: 'command', command: c, event, wildcard });
  switch (action) {
    case 'spawn': {
      if (!happening.imageId) return { kind: 'ignored', reason: 'no-image' };
      const binding = bindings.images.find(b => b.image === '*' || b.image === happening.imageId);
      if (binding === undefined) return { kind: 'ignored', reason: 'unbound-image' };
      const anew = deed === 'rebuild' && happening.inPlace === true ? { anew: true } : {};
      return command({ action, ...asked, ...spawned(binding, happening), ...anew }, binding.image === '*');
    }
    case 'attach': {
      const { volumeId } = happening;
      const binding = bindings.volumes.find(b => b.volume === '*' || b.volume === volumeId);
      if (volumeId === undefined || binding === undefined) return { kind: 'ignored', reason: 'unbound-volume' };
      return command({ action, ...asked, volumeId, ...attached(binding, volumeId, happening) }, binding.volume === '*');
    }
    case 'detach':
      if (deed === 'leave') return command({ action, ...asked, all: true, ...until(happening), lazy: false });
      // Whatever is bound now: it may have been attached under another configuration.
      return command({ action, ...asked, ...volume(happening), lazy: false });
    case 'destroy':
      return command({ action, ...asked, lazy: false });
    case 'extend':
      return command({ action, ...asked, ...volume(happening), ...size(happening) });
    default:
      return action satisfies never;
  }
}

/** What nobody copied may be the only one there is: a root goes only where the operator says that it may. */
function actionOf(deed: Deed, bindings: BindingsConfig): Action {
  if (deed === 'rebuild') return 'spawn';
  if (deed !== 'leave') return deed;
  return bindings.rootsLeftBehind === 'destroy' ? 'destroy' : 'detach';
}

function spawned(binding: ImageBindingConfig, happening: Happening) {
  const values = { image_uuid: happening.imageId ?? '', instance_uuid: happening.instance };
  return { template: fill(binding.template, values), ...(binding.size === null ? {} : { sizeBytes: binding.size }) };
}

function attached(binding: VolumeBindingConfig, volumeId: string, happening: Happening) {
  const values = { volume_id: volumeId, instance_uuid: happening.instance };
  return {
    target: fill(binding.target, values),
    source: sourceOf(binding, values),
    readOnly: binding.readOnly || happening.readOnly === true,
  };
}

function sourceOf(binding: VolumeBindingConfig, values: Readonly<Record<string, string>>) {
  if (binding.device !== null) return { kind: 'device', path: fill(binding.device, values) } as const;
  if (binding.file !== null) return { kind: 'file', path: fill(binding.file, values) } as const;
  const template = fill(binding.template ?? '', values);
  return { kind: 'template', template, ...(binding.size === null ? {} : { sizeBytes: binding.size }) } as const;
}

const until = ({ at }: Happening) => (at === undefined ? {} : { until: at });
const volume = ({ volumeId }: Happening) => (volumeId === undefined ? {} : { volumeId });
const size = ({ sizeBytes }: Happening) => (sizeBytes === undefined ? {} : { sizeBytes });

/**
 * One request is one action for one instance and volume: Nova tells it in two forms and Cinder in a third, and one Nova request
 * (a boot with volumes, a delete) may attach or detach several.
 */
function requestId(action: Action, { instance, volumeId, requestId: id }: Happening): { requestId?: string } {
  return id === undefined
    ? {}
    : { requestId: [action, instance, ...(volumeId === undefined ? [] : [volumeId]), id].join('/') };
}
