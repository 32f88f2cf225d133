import { isAbsolute, normalize } from 'node:path';
import type { Branded } from '../brand.ts';
import type { FsType } from '../engine/model.ts';
import type { MountSpec } from '../engine/ports.ts';
import { ShiftvolError } from '../errors.ts';
import { requireIdmap } from '../idmap/check.ts';
import type { IdKind, Idmap } from '../idmap/idmap.ts';
import { uidMapText } from '../idmap/kernel-text.ts';
import { MOUNT_ATTR } from '../kernel/mount.ts';

/** A parameter of fsconfig(2): a flag, or a key with its value. */
export type MountOption = string | readonly [key: string, value: string];

/** What a file system is mounted with, before anybody sees it. */
type SuperblockFacts = {
  readonly fsType: FsType;
  readonly options: readonly MountOption[];
  /** MOUNT_ATTR flags. */
  readonly attributes: number;
};

type Facts = SuperblockFacts & {
  readonly path: string;
  readonly idmap: Idmap;
  /** Text of /proc/PID/uid_map and gid_map. */
  readonly maps: { readonly uid: string; readonly gid: string };
};
/** A mount that may be made. Only `guard` makes one, and nothing is mounted without one. */
export type GuardedMount = Branded<Facts, 'GuardedMount'>;
/** One that nobody sees yet, and that has no map. Only `guardUnseen` makes one. */
export type UnseenMount = Branded<SuperblockFacts, 'UnseenMount'>;

/**
 * ext4: the image must not choose what happens on an error; `panic` in its superblock would take the host down on the first bad
 * block (tried). xfs: clones have the UUID of their template.
 */
const OPTIONS = {
  ext4: [['errors', 'remount-ro']],
  xfs: ['nouuid'],
  btrfs: [],
} as const satisfies Record<FsType, readonly MountOption[]>;

/**
 * The one gate before every mount. A map reaches no host id below 65536 and none that is not the instance's; devices of the image are
 * dead, setuid programs too unless it is a root file system; read-only means the superblock, so that nobody inside can make it writable.
 * @throws SV_IDMAP_INVALID; SV_TARGET_INVALID: `path` is not absolute and normal
 */
export function guard(fsType: FsType, spec: MountSpec): GuardedMount {
  const { path, idmap } = spec;
  if (!isAbsolute(path) || normalize(path) !== path || path.endsWith('/') || path.includes('\0'))
    throw new ShiftvolError(
      'SV_TARGET_INVALID',
      `Cannot mount at ${JSON.stringify(path)}: accepted is an absolute path without "..", "." and a slash at its end`,
      { field: 'path' },
    );
  requireIdmap(idmap, spec.within);
  requireBase(idmap, spec.idBase);
  const facts: Facts = {
    path,
    fsType,
    options: [...OPTIONS[fsType], ...(spec.readOnly ? ['ro'] : [])],
    attributes:
      MOUNT_ATTR.NODEV | (spec.role === 'root' ? 0 : MOUNT_ATTR.NOSUID) | (spec.readOnly ? MOUNT_ATTR.RDONLY : 0),
    idmap,
    maps: { uid: uidMapText(idmap, 'uid'), gid: uidMapText(idmap, 'gid') },
  };
  return facts as GuardedMount;
}

/** The strictest that a writable one can have; `guard` says what becomes of it. */
export function guardUnseen(fsType: FsType): UnseenMount {
  const facts: SuperblockFacts = {
    fsType,
    options: OPTIONS[fsType],
    attributes: MOUNT_ATTR.NODEV | MOUNT_ATTR.NOSUID,
  };
  return facts as UnseenMount;
}

/** The host id that an id on disk shows as; undefined where it has none (the kernel shows 65534). */
export function hostIdOf(idmap: Idmap, kind: IdKind, onDisk: number): number | undefined {
  const extent = idmap.find(e => e.kind === kind && onDisk >= e.fsId && onDisk < e.fsId + e.count);
  return extent && extent.hostId + (onDisk - extent.fsId);
}

function requireBase(idmap: Idmap, idBase: number): void {
  for (const kind of ['uid', 'gid'] as const)
    if (hostIdOf(idmap, kind, idBase) === undefined)
      throw new ShiftvolError(
        'SV_IDMAP_INVALID',
        `Cannot mount with id base ${idBase}: the map has no ${kind} ${idBase} on disk, accepted is a map of the base`,
        { field: 'idBase' },
      );
}
