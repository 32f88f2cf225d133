import type { AttachmentId, InstanceKey, Plan } from '../../../src/engine/model.ts';

/** A plan whose brands are given by hand: what is looked at here was never planned. */
export function planFor(name: string): Plan {
  const id = Buffer.from(name.padEnd(8, '.')).toString('hex').slice(0, 16) as AttachmentId;
  return {
    id,
    role: 'volume',
    instance: `instance-${name}` as InstanceKey,
    ref: { ref: name },
    runtime: 'lxd',
    target: '/mnt/data',
    source: { kind: 'template', template: 'web' },
    readOnly: false,
    snapshot: `web/${id}`,
    snapshotKept: false,
    image: { kind: 'file', path: '/pool/image' },
    idBase: 0,
    idmap: [],
    instanceMap: [],
    mountPath: '/run/mount',
    deviceName: 'device',
    handoff: 'device',
  };
}
