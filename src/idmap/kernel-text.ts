import { ShiftvolError } from '../errors.ts';
import type { IdKind, Idmap } from './idmap.ts';

/** The kernel takes a map in one write of less than a page (user_namespaces(7)). */
export const MAX_MAP_BYTES = 4095;

/**
 * What has to be written to /proc/PID/uid_map (or gid_map) so that a mount with that user namespace shows `fsId` as `hostId`:
 * "ID-ON-DISK HOST-ID COUNT" lines in the order of the map. Empty where the map has no extent of this kind.
 * @throws SV_IDMAP_INVALID: longer than the 4,095 bytes that the kernel takes
 */
export function uidMapText(map: Idmap, kind: IdKind): string {
  const text = mapLines(map, kind);
  if (text.length > MAX_MAP_BYTES)
    throw new ShiftvolError(
      'SV_IDMAP_INVALID',
      `Cannot write the ${kind} map: it takes ${text.length} bytes, the kernel accepts ${MAX_MAP_BYTES}`,
      { field: 'extents', remedy: 'use fewer and larger extents' },
    );
  return text;
}

export function mapLines(map: Idmap, kind: IdKind): string {
  return map
    .filter(extent => extent.kind === kind)
    .map(extent => `${extent.fsId} ${extent.hostId} ${extent.count}\n`)
    .join('');
}
