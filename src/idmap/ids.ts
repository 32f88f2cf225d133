import { ShiftvolError } from '../errors.ts';
import { type FsId, HIGHEST_ID, type HostId } from './idmap.ts';

/** An id as the file system stores it. @throws SV_IDMAP_INVALID: not a whole number in 0-4294967294 */
export function fsId(id: number, field = 'fsId'): FsId {
  return checked(id, 'on-disk', field) as FsId;
}

/** An id as the host knows it; whether it may be mapped is for `requireIdmap` to say. @throws SV_IDMAP_INVALID as `fsId` */
export function hostId(id: number, field = 'hostId'): HostId {
  return checked(id, 'host', field) as HostId;
}

export function isId(id: number): boolean {
  return Number.isSafeInteger(id) && id >= 0 && id <= HIGHEST_ID;
}

function checked(id: number, side: string, field: string): number {
  if (isId(id)) return id;
  throw new ShiftvolError(
    'SV_IDMAP_INVALID',
    `Cannot use ${id} as ${side} id: ids are whole numbers in 0-${HIGHEST_ID}`,
    {
      field,
    },
  );
}
