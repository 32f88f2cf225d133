/** What the engine does, in memory. */
import {
  type Attachment,
  type Command,
  type InstanceKey,
  type Outcome,
  type Plan,
  type Source,
  sourceName,
} from '../../../src/engine/model.ts';
import { attachmentId } from '../../../src/engine/plan.ts';
import type { SwapRequest } from '../../../src/engine/swap.ts';
import { ShiftvolError } from '../../../src/errors.ts';
import type { MachineState } from './fake-machines.ts';

export type EngineState = MachineState & {
  readonly requests: string[];
  readonly attachments: Map<string, Attachment>;
  readonly ranges: Set<string>;
};

export function swap(host: EngineState, { instance: { ref }, volumeId, connection, grows }: SwapRequest): Attachment {
  const [key, found] = [...host.attachments].find(([, { plan }]) => plan.volumeId === volumeId) ?? [];
  if (!found || key === undefined)
    throw new ShiftvolError('SV_ATTACHMENT_NOT_FOUND', `Cannot find an attachment for "${volumeId}"`);
  host.note(`swap ${volumeId} ${connection.volumeId}${grows ? ' and grow' : ''}`);
  const source = { kind: 'connection', connection } as const;
  const { target, readOnly } = found.plan;
  const swapped = attached(ref, target, source, readOnly, connection.volumeId);
  const attachment = { ...swapped, plan: { ...swapped.plan, formerVolumeId: volumeId } };
  host.attachments.set(key, attachment);
  return attachment;
}

export function execute(host: EngineState, command: Command): Outcome {
  if (command.requestId !== undefined) host.requests.push(command.requestId);
  const { ref } = command.instance;
  const outcome = (changed: boolean): Outcome => ({
    action: command.action,
    changed,
    attachments: [],
    durationMs: 0,
    steps: [],
  });
  const missing = (what: string) =>
    new ShiftvolError('SV_ATTACHMENT_NOT_FOUND', `Cannot find an attachment for ${what}`);
  switch (command.action) {
    case 'spawn':
    case 'attach': {
      const target = command.action === 'attach' ? command.target : '/';
      const source = 'source' in command ? command.source : ({ kind: 'template', template: command.template } as const);
      if (!host.machines.has(ref)) throw new ShiftvolError('SV_INSTANCE_NOT_FOUND', `Cannot find instance "${ref}"`);
      const there = host.attachments.get(`${ref}:${target}`);
      if (there && sourceName(there.plan.source) !== sourceName(source))
        throw new ShiftvolError('SV_TARGET_TAKEN', `Cannot attach at ${target}: something else is attached there`);
      if (there) return outcome(false);
      host.note(`${command.action} ${showSource(source)} at ${target}`);
      const readOnly = command.action === 'attach' && command.readOnly;
      host.attachments.set(`${ref}:${target}`, attached(ref, target, source, readOnly, command.volumeId));
      return outcome(true);
    }
    case 'detach': {
      const found = [...host.attachments].find(
        ([, { plan }]) =>
          plan.instance === ref && (plan.volumeId === command.volumeId || plan.target === command.target),
      );
      if (!found) throw missing(`"${ref}:${command.volumeId}"`);
      host.note(`detach ${found[1].plan.target}`);
      host.attachments.delete(found[0]);
      return outcome(true);
    }
    case 'destroy': {
      const mine = [...host.attachments].filter(
        ([, { plan }]) => plan.instance === ref && (command.target === undefined || plan.target === command.target),
      );
      if (mine.length === 0 && (command.target !== undefined || !host.ranges.has(ref))) throw missing(`"${ref}"`);
      if (host.machines.get(ref)?.state === 'running')
        throw new ShiftvolError('SV_BUSY', 'Cannot destroy the root file system: the instance runs');
      host.note(command.target === undefined ? 'destroy all' : `destroy ${command.target}`);
      for (const [key] of mine) host.attachments.delete(key);
      if (command.target === undefined) host.ranges.delete(ref);
      return outcome(true);
    }
    default:
      throw new Error(`not here: ${command.action}`);
  }
}

function showSource(source: Source): string {
  if (source.kind === 'template')
    return `template ${source.template}${source.sizeBytes === undefined ? '' : ` of ${source.sizeBytes}`}`;
  return source.kind === 'connection' ? `volume ${source.connection.volumeId}` : source.path;
}

function attached(
  ref: string,
  target: string,
  source: Source,
  readOnly: boolean,
  volumeId: string | undefined,
): Attachment {
  const key = ref as InstanceKey;
  const id = attachmentId(key, target);
  const plan: Plan = {
    id,
    role: target === '/' ? 'root' : 'volume',
    instance: key,
    ref: { ref },
    runtime: 'fake',
    target,
    source,
    readOnly,
    ...(volumeId === undefined ? {} : { volumeId }),
    snapshotKept: false,
    image: { kind: 'file', path: `/images/${id}` },
    idBase: 0,
    idmap: [],
    instanceMap: [],
    mountPath: `/run/sv/${id}`,
    deviceName: `sv-${id}`,
    handoff: target === '/' ? 'none' : 'device',
  };
  const at = '2026-01-01T00:00:00.000Z';
  return {
    plan,
    status: { state: 'attached', device: '/dev/loop0', fsType: 'ext4', attachedAt: at },
    createdAt: at,
    updatedAt: at,
  };
}
