import { z } from 'zod';
import { parse, type Read, refuse } from './info-shape.ts';

const portal = z.string().regex(/^(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):\d{1,5}$/, 'ADDRESS:PORT is accepted');
const iqn = z.string().regex(/^(?:iqn|eui|naa)\.[A-Za-z0-9.:_-]{1,220}$/, 'an iSCSI name is accepted');
const lun = z.coerce.number().int().min(0).max(16_383);
/** As iscsid reads it from a line of a file. */
const word = z.string().max(255).regex(/^\S*$/, 'no blanks are accepted');
const iscsi = z.object({
  target_portal: portal.nullish(),
  target_iqn: iqn.nullish(),
  target_lun: lun.nullish(),
  target_portals: z.array(portal).max(64).nullish(),
  target_iqns: z.array(iqn).max(64).nullish(),
  target_luns: z.array(lun).max(64).nullish(),
  auth_method: z.string().nullish(),
  auth_username: word.nullish(),
  auth_password: word.nullish(),
});

/** All paths as `PORTAL IQN LUN`, the first being the main one. CHAP's secret goes its own way. */
export function readIscsi(data: unknown, volumeId: string): Read {
  const info = parse(iscsi, data);
  const paths = pathsOf(info);
  if (paths.length === 0) throw refuse('target_portal', 'target_portal, target_iqn and target_lun are needed');
  const { auth_method, auth_username, auth_password } = info;
  if (auth_method && auth_method !== 'CHAP')
    throw refuse('auth_method', `"${auth_method}" is asked for, CHAP is accepted`);
  if (auth_method && (!auth_username || !auth_password))
    throw refuse('auth_password', 'CHAP needs auth_username and auth_password');
  return {
    type: 'iscsi',
    name: `iscsi:${volumeId}`,
    kind: 'device',
    facts: { paths, ...(auth_method && auth_username && { chapUser: auth_username }) },
    ...(auth_method && auth_password && { secrets: { chapPassword: auth_password } }),
  };
}

function pathsOf(info: z.output<typeof iscsi>): readonly string[] {
  const { target_portals: portals, target_iqns: iqns, target_luns: luns } = info;
  if (portals && iqns && luns) {
    if (portals.length !== iqns.length || portals.length !== luns.length)
      throw refuse('target_luns', 'target_portals, target_iqns and target_luns must have one entry for each path');
    return portals.map((at, i) => `${at} ${iqns[i]} ${luns[i]}`);
  }
  const { target_portal, target_iqn, target_lun } = info;
  return target_portal && target_iqn && typeof target_lun === 'number'
    ? [`${target_portal} ${target_iqn} ${target_lun}`]
    : [];
}
