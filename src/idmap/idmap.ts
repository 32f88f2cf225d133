import type { Branded } from '../brand.ts';

/** An id as the file system stores it. Made by `fsId`. */
export type FsId = Branded<number, 'FsId'>;
/** An id as the host's kernel knows it (initial user namespace). Made by `hostId`. */
export type HostId = Branded<number, 'HostId'>;
export type IdKind = 'uid' | 'gid';

/**
 * `count` ids from `fsId` on are shown as `hostId` and following. The map of a user namespace (`/proc/PID/uid_map`) has the same
 * shape: the id inside takes the place of `fsId`.
 */
export type Extent = { readonly kind: IdKind; readonly fsId: FsId; readonly hostId: HostId; readonly count: number };

/** Extents in no particular order; within a kind neither side overlaps. */
export type Idmap = readonly Extent[];

/** Half open: `start` and the `count - 1` ids after it. */
export type IdRange = { readonly start: number; readonly count: number };

/** No host id below this is ever mapped: these are the host's own users. */
export const LOWEST_HOST_ID = 65536;
/** 2^32 - 2: the highest id there is; 2^32 - 1 means "no id" to the kernel (`(uid_t) -1`). */
export const HIGHEST_ID = 4294967294;
/** user_namespaces(7), since Linux 4.15. */
export const MAX_EXTENTS = 340;
/** What the kernel shows for an id that has no mapping (`/proc/sys/kernel/overflowuid`). */
export const OVERFLOW_ID = 65534;
