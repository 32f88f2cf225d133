import { z } from 'zod';
import { parse, type Read, refuse } from './info-shape.ts';

const nqn = z.string().regex(/^nqn\.[A-Za-z0-9.:_-]{1,219}$/, 'an NVMe qualified name is accepted');
const address = z.string().regex(/^[A-Za-z0-9.:_-]{1,255}$/, 'an address is accepted');
const port = z.coerce.number().int().min(1).max(65_535);
const uuid = z.string().regex(/^[0-9A-Fa-f-]{32,36}$/, 'a uuid is accepted');
const nvmeof = z.object({
  target_nqn: nqn.nullish(),
  portals: z
    .array(z.tuple([address, port, z.string()]))
    .max(64)
    .nullish(),
  vol_uuid: uuid.nullish(),
  // The format of version 1.
  nqn: nqn.nullish(),
  target_portal: address.nullish(),
  target_port: port.nullish(),
  transport_type: z.string().nullish(),
  volume_nguid: uuid.nullish(),
  ns_id: z.coerce.number().int().positive().nullish(),
  host_nqn: nqn.nullish(),
  volume_replicas: z.array(z.unknown()).nullish(),
});

/** All portals as `TRANSPORT ADDRESS PORT`. The namespace by its uuid, its NGUID or its number, whichever Cinder says. */
export function readNvmeof(data: unknown, volumeId: string): Read {
  const info = parse(nvmeof, data);
  if (info.volume_replicas && info.volume_replicas.length > 0)
    throw refuse('volume_replicas', 'the volume is a RAID of several targets, one target is accepted');
  const subsystem = info.target_nqn ?? info.nqn;
  if (!subsystem) throw refuse('target_nqn', 'target_nqn or nqn is needed');
  const old = info.target_portal && info.target_port;
  const portals: [string, number, string][] =
    info.portals ?? (old ? [[info.target_portal ?? '', info.target_port ?? 0, info.transport_type ?? 'tcp']] : []);
  if (portals.length === 0) throw refuse('portals', 'at least one portal is needed');
  const { vol_uuid, volume_nguid, ns_id, host_nqn } = info;
  if (!vol_uuid && !volume_nguid && !ns_id)
    throw refuse('ns_id', 'one of vol_uuid, volume_nguid and ns_id is needed to tell the namespace');
  return {
    type: 'nvmeof',
    name: `nvmeof:${volumeId}`,
    kind: 'device',
    facts: {
      nqn: subsystem,
      portals: portals.map(([at, number, transport]) => `${transportOf(transport)} ${at} ${number}`),
      ...(vol_uuid && { uuid: hex(vol_uuid) }),
      ...(volume_nguid && { nguid: hex(volume_nguid) }),
      ...(ns_id && { namespace: ns_id }),
      ...(host_nqn && { hostNqn: host_nqn }),
    },
  };
}

function transportOf(text: string): 'rdma' | 'tcp' {
  return /^(rdma|RoCEv2)$/i.test(text) ? 'rdma' : 'tcp';
}

const hex = (text: string): string => text.replaceAll('-', '').toLowerCase();
