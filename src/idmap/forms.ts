/**
 * The ways in which idmaps are written. In all that say DISK or CONTAINER first, that is the id on the left of the map, and HOST the
 * one that is seen through it; LXD's raw.idmap alone says the host's first (`ParseRawIdmap` in lxd/instance/instancetype: "outside", then
 * "inside"). util-linux' man page of X-mount.idmap had the two the wrong way round for years; what it did is what stands here.
 */
export const IDMAP_FORMS = ['json', 'columns', 'lxd', 'lxd-json', 'lxc', 'mount', 'triple', 'proc', 'subid'] as const;
export type IdmapForm = (typeof IDMAP_FORMS)[number];

/** How an entry of each form looks. */
export const SHAPES = {
  json: '{"extents":[{"kind":"uid","fsId":DISK,"hostId":HOST,"count":COUNT}]}',
  columns: 'uid|gid|both DISK HOST COUNT',
  lxd: 'uid|gid|both HOST[-HOST] CONTAINER[-CONTAINER]',
  'lxd-json': '[{"Isuid":true,"Isgid":false,"Hostid":HOST,"Nsid":CONTAINER,"Maprange":COUNT}]',
  lxc: 'lxc.idmap = u|g|b CONTAINER HOST COUNT',
  mount: 'u|g|b:DISK:HOST:COUNT',
  triple: 'DISK:HOST:COUNT',
  proc: 'CONTAINER HOST COUNT',
  subid: 'OWNER:START:COUNT',
} as const satisfies Record<IdmapForm, string>;

export const ALL_SHAPES = IDMAP_FORMS.map(form => `"${SHAPES[form]}"`).join(', ');
