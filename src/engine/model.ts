import type { Branded } from '../brand.ts';
import type { ErrorReport } from '../errors.ts';
import type { Idmap } from '../idmap/idmap.ts';
import type { Secrets } from './secrets.ts';

/** 16 hex digits, derived from instance and target: the same request twice is the same attachment. */
export type AttachmentId = Branded<string, 'AttachmentId'>;
/** Stable name of an instance: Nova's uuid where it has one, else `name`, or `project/name` outside the default project. */
export type InstanceKey = Branded<string, 'InstanceKey'>;

/** How a request names an instance: its name in the runtime, Nova's uuid, or `instance-%08x`. */
export type InstanceRef = { readonly ref: string; readonly project?: string };

export const FS_TYPES = ['ext4', 'xfs', 'btrfs'] as const;
export type FsType = (typeof FS_TYPES)[number];

/** Where an attachment's data comes from. */
export type Source =
  | { readonly kind: 'template'; readonly template: string; readonly sizeBytes?: number }
  | { readonly kind: 'file'; readonly path: string; readonly idBase?: number }
  | { readonly kind: 'device'; readonly path: string; readonly idBase?: number }
  | { readonly kind: 'connection'; readonly connection: Connection; readonly idBase?: number };

export const CONNECTION_TYPES = ['local', 'nfs', 'rbd', 'iscsi', 'nvmeof'] as const;
export type ConnectionType = (typeof CONNECTION_TYPES)[number];

/**
 * How a volume of another machine comes to this host: all that finding it, letting go of it and connecting it again need. It is
 * journaled and shown, so that no secret is in it.
 */
export type Connection = {
  readonly type: ConnectionType;
  /** Cinder's. */
  readonly volumeId: string;
  /** Stable name of the volume on this host: two connections of one volume have one name. */
  readonly name: string;
  /** What it is once it is here: a file on a share, or a block device. */
  readonly kind: 'file' | 'device';
  readonly readOnly: boolean;
  readonly encryption?: Encryption;
  /** What the connector of this type needs besides; only that one reads it. */
  readonly facts: Readonly<Record<string, string | number | boolean | readonly string[]>>;
};

/** LUKS between the volume and what is mounted. The key itself comes as a secret, or by its id. */
export type Encryption = {
  readonly provider: 'luks' | 'luks2';
  readonly keyId?: string;
  readonly cipher?: string;
  readonly keySizeBits?: number;
};

/** What a source is called: a template's name, a path, a volume's name on this host. */
export function sourceName(source: Source): string {
  switch (source.kind) {
    case 'template':
      return source.template;
    case 'connection':
      return source.connection.name;
    case 'file':
    case 'device':
      return source.path;
    default:
      return source satisfies never;
  }
}

type Asked = { readonly requestId?: string; readonly instance: InstanceRef };
export type AttachCommand = Asked & {
  readonly action: 'attach';
  readonly target: string;
  readonly source: Source;
  readonly readOnly: boolean;
  readonly volumeId?: string;
  /** For a connection: never journaled, never logged. */
  readonly secrets?: Secrets;
};
/** A volume that its service has to be asked for first. `volume`: its name or id there. */
export type AttachVolumeCommand = Omit<AttachCommand, 'source' | 'volumeId' | 'secrets'> & {
  readonly volume: string;
  readonly idBase?: number;
};
/** `target` or `volumeId` says which one; `all`: every one but the root. `lazy`: take it away from under a process that still holds it. */
export type DetachCommand = Asked & {
  readonly action: 'detach';
  readonly target?: string;
  readonly volumeId?: string;
  readonly all?: boolean;
  /** With `all`: only what was attached before, ISO 8601. What the instance got since, it got because it came back. */
  readonly until?: string;
  readonly lazy: boolean;
};
/**
 * Mounts a root file system at a known path: a snapshot of a template, or a volume as it is. For an instance that the runtime has already
 * with its ids and at its path; else before it exists, with a range of its own.
 */
export type SpawnCommand = Asked & {
  readonly action: 'spawn';
  readonly volumeId?: string;
  /** A root that is there already is destroyed first, with what is in it. Not while the runtime has the instance. */
  readonly anew?: boolean;
  /** For a connection: never journaled, never logged. */
  readonly secrets?: Secrets;
} & ({ readonly template: string; readonly sizeBytes?: number } | { readonly source: Source });

/** What a spawn mounts; a template's name alone is the short form. */
export function rootSource(command: SpawnCommand): Source {
  if ('source' in command) return command.source;
  const { template, sizeBytes } = command;
  return { kind: 'template', template, ...(sizeBytes === undefined ? {} : { sizeBytes }) };
}

/** Lets go of all that this host made for an instance: detaches, removes snapshots, releases the range. */
export type DestroyCommand = Asked & { readonly action: 'destroy'; readonly target?: string; readonly lazy: boolean };
/** Makes what is attached larger, while it is in use: an image to `sizeBytes`; a block device is as large as it is. */
export type ExtendCommand = Asked & {
  readonly action: 'extend';
  readonly target?: string;
  readonly volumeId?: string;
  readonly sizeBytes?: number;
};
export type Command = AttachCommand | DetachCommand | SpawnCommand | DestroyCommand | ExtendCommand;
export type Action = Command['action'];

export const STEPS = ['reserve', 'connect', 'snapshot', 'device', 'mount', 'handoff'] as const;
export type StepName = (typeof STEPS)[number];

/** `device`: through the runtime's own API. `none`: a root file system, which the runtime opens by its path. */
export type Handoff = 'device' | 'none';

/** What is decided before the first side effect, and all that undo needs. Journaled as the intent. */
export type Plan = {
  readonly id: AttachmentId;
  readonly role: 'root' | 'volume';
  readonly instance: InstanceKey;
  /** How the runtime finds the instance again. */
  readonly ref: InstanceRef;
  readonly runtime: string;
  readonly target: string;
  readonly source: Source;
  readonly readOnly: boolean;
  readonly volumeId?: string;
  /** Of the volume whose place this one took: Cinder goes on calling it so where it moved the volume itself. */
  readonly formerVolumeId?: string;
  /** Snapshot's name in the backend (`TEMPLATE/ID`); absent where the source is used as it is. */
  readonly snapshot?: string;
  /** The snapshot was there before this attach (attached again after a detach): undoing leaves it. */
  readonly snapshotKept: boolean;
  /** The image or device to be mounted; of a connection its name, and where it is, connecting tells. */
  readonly image: { readonly kind: 'file' | 'device'; readonly path: string };
  readonly fsType?: FsType;
  /** First id on disk (two-step maps); checked against the root inode's owner. */
  readonly idBase: number;
  /** On-disk id -> host id. */
  readonly idmap: Idmap;
  /** Container id -> host id: what the instance owns; the map may not leave it. */
  readonly instanceMap: Idmap;
  readonly mountPath: string;
  readonly deviceName: string;
  readonly handoff: Handoff;
};

/** What a removal is for: the snapshot is kept, or removed too, or with it (as the last of its instance) the instance's ids go back. */
export type RemovalGoal = 'detach' | 'destroy' | 'destroy instance';

/**
 * attaching -> attached | undoing; undoing -> (gone) | detached; attached -> detaching; detaching -> detached | (gone);
 * detached (its snapshot is kept) -> attaching | detaching. Each but attached and detached may stay where it is, when an undo fails.
 */
export type AttachmentState =
  | { readonly state: 'attaching'; readonly step: StepName }
  | {
      readonly state: 'attached';
      readonly device: string;
      readonly fsType: FsType;
      /** Of the file system; absent where a shiftvol noted it that did not ask. */
      readonly fsUuid?: string;
      readonly attachedAt: string;
      /** Of a root: its instance came here from another host, and nothing has mounted it anew since. */
      readonly moved?: Moved;
    }
  | { readonly state: 'detaching'; readonly goal: RemovalGoal; readonly error?: ErrorReport }
  | { readonly state: 'detached'; readonly detachedAt: string }
  | { readonly state: 'undoing'; readonly error: ErrorReport };

/** `downMs`: from the beginning of its stop there to its start here, by the clocks of both hosts. */
export type Moved = { readonly from: string; readonly downMs: number; readonly at: string };

export type Attachment = {
  readonly plan: Plan;
  readonly status: AttachmentState;
  readonly requestId?: string;
  readonly createdAt: string;
  readonly updatedAt: string;
};

/** Nothing is under way, and nothing was left half way. */
export function isSettled({ status: { state } }: Attachment): boolean {
  return state === 'attached' || state === 'detached';
}

/**
 * Work that leaves an attachment as it is, noted before it begins: `recover` ends what a crash leaves of it. `frozen`: where mounts may
 * stand still. `restore`: with `replaced` the image is the new one already. `swap`: done when `to` is attached, else `from` is put back;
 * with `left` its instance may not see it any more.
 */
export type Task = { readonly id: string; readonly instance: InstanceKey } & (
  | { readonly kind: 'extend'; readonly attachment: AttachmentId; readonly sizeBytes?: number }
  | {
      readonly kind: 'snapshot';
      readonly attachment: AttachmentId;
      readonly name: string;
      readonly frozen: readonly string[];
    }
  | { readonly kind: 'freeze'; readonly frozen: readonly string[] }
  | { readonly kind: 'restore'; readonly attachment: AttachmentId; readonly name: string; readonly replaced: boolean }
  | {
      readonly kind: 'swap';
      readonly attachment: AttachmentId;
      readonly from: Plan;
      readonly was: Extract<AttachmentState, { state: 'attached' }>;
      readonly to: Plan;
      readonly left: boolean;
      readonly frozen: readonly string[];
    }
);

/** What a step took, in milliseconds. */
export type StepTiming = { readonly step: string; readonly ms: number };

/** What is told on the bus, the log and the page. */
export type AttachmentEvent = {
  readonly action: Action | 'swap' | 'move';
  readonly phase: 'start' | 'end' | 'error';
  readonly instance: string;
  readonly attachmentId?: AttachmentId;
  readonly target?: string;
  readonly template?: string;
  readonly volumeId?: string;
  readonly requestId?: string;
  readonly host: string;
  readonly at: string;
  readonly durationMs?: number;
  readonly steps?: readonly StepTiming[];
  readonly error?: ErrorReport;
};

/** What a command comes back with. `changed` is false when all was so already. */
export type Outcome = {
  readonly action: Action;
  readonly changed: boolean;
  readonly attachments: readonly Attachment[];
  readonly durationMs: number;
  readonly steps: readonly StepTiming[];
};
