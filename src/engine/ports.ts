/** The interfaces that the engine needs. It owns them; back ends, mounts, runtimes and the journal satisfy them. */

import type { Readable } from 'node:stream';
import type { ErrorReport } from '../errors.ts';
import type { Idmap, IdRange } from '../idmap/idmap.ts';
import type { Engine } from './engine.ts';
import type {
  Action,
  Attachment,
  AttachmentEvent,
  AttachmentId,
  AttachmentState,
  AttachVolumeCommand,
  Connection,
  FsType,
  InstanceKey,
  InstanceRef,
  Outcome,
  Plan,
  StepName,
  Task,
} from './model.ts';
import type { Preview } from './preview.ts';
import type { Leftover } from './recover.ts';
import type { Secrets } from './secrets.ts';

/** A clean, read-only file system image from which snapshots are taken. */
export type Template = {
  readonly name: string;
  readonly fsType: FsType;
  readonly uuid: string;
  readonly label: string;
  readonly sizeBytes: number;
  /** First id on disk. */
  readonly idBase: number;
  readonly sha256: string;
  readonly extents: number;
  readonly path: string;
  readonly createdAt: string;
};

/**
 * One way to keep templates and to take snapshots of them in O(1).
 * Every method may be called again with the same arguments at any time, also after a crash in the middle of the last call.
 */
export interface Backend {
  readonly name: string;
  /** @throws SV_TEMPLATE_NOT_FOUND, SV_POOL_NOT_FOUND */
  getTemplate(name: string): Promise<Template>;
  /** Where the snapshot of this name is, or will be. Pure. */
  snapshotPath(name: string): string;
  /** Makes the snapshot; one that is there already is left as it is and is success. @throws SV_NO_SPACE */
  snapshot(
    template: Template,
    name: string,
    options: { sizeBytes?: number; signal?: AbortSignal },
  ): Promise<{ path: string }>;
  /** "Not there" is success. The caller has made sure that no device uses it. */
  removeSnapshot(name: string): Promise<void>;
  /**
   * Gives an image that came from another host, a file of `incoming/` in the pool, the name of a snapshot too; there already is success.
   * On the disk when it returns. @throws SV_TEMPLATE_NOT_FOUND; SV_SNAPSHOT_EXISTS: another one has this name
   */
  adoptSnapshot(image: string, name: string): Promise<void>;
  /** Names of all snapshots there are, for recover. */
  listSnapshots(): Promise<readonly string[]>;
  readonly spares: SpareImages;
}

/** Snapshots that nobody has asked for yet. What has no engine any more is taken away by `sweep`. */
export interface SpareImages {
  /** Returns the path of a new one. @throws as `Backend.snapshot` */
  make(template: Template): Promise<string>;
  /** Makes it the snapshot of this name, while it may be in use. False: there is one of this name, or the spare is gone. */
  give(path: string, snapshot: string): boolean;
  /** "Not there" is success. */
  remove(path: string): void;
  /** Removes all that no device has in use. */
  sweep(): void;
}

/** A copy of an attachment's image at one moment, kept under a name whatever becomes of the attachment. */
export type SavedImage = {
  readonly attachment: AttachmentId;
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly createdAt: string;
};
/** `exclusiveBytes`: what its removal gives back. */
export type SavedImageWithUse = SavedImage & { readonly exclusiveBytes: number; readonly sharedBytes: number };

/** Where saved snapshots lie. Every method may be called again at any time, also after a crash in the middle of the last call. */
export interface SavedImages {
  /** @throws SV_USAGE: not a name */
  find(of: AttachmentId, name: string): SavedImage | undefined;
  /** All, or those of one attachment. */
  list(of?: AttachmentId): Promise<readonly SavedImageWithUse[]>;
  /** Clones the image as it is now, without reading it. Has no name yet. @throws SV_NO_SPACE; SV_IMAGE_REFUSED: it shares no blocks with the pool */
  clone(image: string, of: AttachmentId, name: string): Promise<{ readonly path: string; readonly sizeBytes: number }>;
  /** The clone is good: gives it its name, and has it on the disk. */
  keep(of: AttachmentId, name: string): Promise<void>;
  /** Removes a clone that has no name. "Not there" is success. */
  discard(of: AttachmentId, name: string): Promise<void>;
  /** "Not there" is success. */
  remove(of: AttachmentId, name: string): Promise<void>;
  /** Removes what was saved by a process for its own use, which it could not remove any more: it is gone. */
  sweep(): Promise<void>;
  /** Puts a clone of the snapshot into the place of the image, in one step. The caller has made sure that no device uses the image. */
  restore(of: AttachmentId, name: string, image: string): Promise<void>;
  /**
   * Puts a clone of the image into its place, in one step, whose file system fills it: where the mounted one may not be grown. The caller
   * has made sure that no device uses the image. @throws SV_HOST: not for this file system; SV_GROW; SV_TOOL
   */
  growUnmounted(of: AttachmentId, image: string, fsType: FsType, signal?: AbortSignal): Promise<void>;
  /** Takes away what an interrupted `restore` or `growUnmounted` left beside the image. */
  discardRestore(of: AttachmentId, image: string): Promise<void>;
  /** The bytes of a file; its holes cost nothing to read. */
  read(path: string, signal?: AbortSignal): Readable;
}

/** Stops all writing to mounted file systems for a moment. */
export interface Freezer {
  /**
   * Writes out what is dirty and freezes. Whatever becomes of this process, all is thawed at the deadline at the latest, by another one;
   * only if both are killed it is left to `thaw`.
   * @throws SV_TIMEOUT: writing out takes too much of the deadline; SV_BUSY: somebody else has frozen it
   */
  freeze(paths: readonly string[], options: { deadlineMs: number; signal?: AbortSignal }): Promise<Frozen>;
  /** What a crash has left. Not frozen, or not mounted, is success, and false. */
  thaw(path: string): Promise<boolean>;
}

/** Disposing thaws. */
export interface Frozen extends AsyncDisposable {
  readonly isFrozen: boolean;
  /** Resolves when nothing is frozen any more, whatever the reason. */
  readonly ended: Promise<void>;
  /** @throws SV_TIMEOUT: it was thawed before, at the deadline; SV_INTERNAL: the guard was killed. What was copied meanwhile may be torn */
  thaw(): Promise<{ readonly frozenMs: number }>;
}

/** A block device that stays alive until it is disposed of or mounted; the mount then keeps it. */
export interface BlockDevice extends AsyncDisposable {
  /** `/dev/loop3`, `/dev/sdb1` */
  readonly path: string;
  /** `7:3` */
  readonly devno: string;
  readonly fsType: FsType;
  readonly uuid: string;
}

/**
 * `known`: what a fresh snapshot of a template holds. The template was probed at its import and has been read-only since; without it the
 * image's own superblocks are read, and refused where they would act beyond it.
 */
export type OpenOptions = {
  readonly readOnly: boolean;
  readonly known?: Pick<Template, 'fsType' | 'uuid'>;
  readonly signal?: AbortSignal;
};

export type ImageRef = { readonly kind: 'file' | 'device'; readonly path: string };

/** Brings volumes that a storage service exports to this host. Every method may be called again at any time, also after a crash in the last call. */
export interface Connections {
  /** Whether this host itself asked the service for it. Else somebody else decides where the volume is, and may have decided anew meanwhile. */
  isOwn(connection: Connection): boolean;
  /**
   * Brings the volume to this host; there already is success. Returns what is to be mounted, verified to be this volume.
   * `asItIs`: nothing is made on it, also where it is blank.
   * @throws SV_CONNECTION; SV_HOST: a program or module is missing; SV_TIMEOUT: no device came
   */
  connect(
    connection: Connection,
    options: { secrets?: Secrets; asItIs?: boolean; signal?: AbortSignal },
  ): Promise<ImageRef>;
  /** What the volume is on this host now; undefined where it is not connected. Looks, and changes nothing. */
  find(connection: Connection, signal?: AbortSignal): Promise<ImageRef | undefined>;
  /** Not connected is success. @throws SV_BUSY: something uses it */
  disconnect(connection: Connection, options: { signal?: AbortSignal }): Promise<void>;
  /** Takes notice that the service made the volume larger. Returns its size on this host, in bytes. @throws SV_CONNECTION: not connected */
  extend(connection: Connection, signal?: AbortSignal): Promise<number>;
}

/** All of it is on the disk but what makes it a file system; with `complete` that too. */
export type Copied = { complete(): Promise<void> };

/** Copies what one volume holds to another. */
export interface VolumeCopier {
  /** Nothing is on it, as far as can be told. */
  isBlank(image: ImageRef, signal?: AbortSignal): Promise<boolean>;
  /** What a copy has to read at least: the holes of a file cost nothing. */
  bytesToRead(image: ImageRef, sizeBytes: number): Promise<number>;
  /**
   * Copies `sizeBytes`, while nobody writes to `from`, although it may be mounted. `isBlank` stays true of `to`, which has `toBytes`, until the copy
   * is completed, so that one that was cut, or is not wanted, can neither be mounted nor stands in the way of the next. @throws SV_NO_SPACE
   */
  copy(
    from: ImageRef,
    to: ImageRef,
    options: { readonly sizeBytes: number; readonly toBytes: number; readonly signal?: AbortSignal },
  ): Promise<Copied>;
}

/** What a volume service needs of the engine. */
export type VolumeHost = Pick<Engine, 'execute' | 'preview' | 'list' | 'recover'>;

/** A service that exports volumes to this host because we ask it to, without Nova: what it exports is ours to end. */
export interface VolumeService {
  /** Has the volume exported, and attached by the engine. All of it, or what is left is found by `sweep`. */
  attach(command: AttachVolumeCommand, host: VolumeHost, signal: AbortSignal): Promise<Outcome>;
  preview(command: AttachVolumeCommand, host: VolumeHost, signal: AbortSignal): Promise<Preview>;
  /** Makes one that the service exports because we asked it to as large there; as large already is success, and others are not ours to change. */
  enlarge(connection: Connection, sizeBytes: number, signal: AbortSignal): Promise<void>;
  /** Ends at the service what an attach began that the journal (`known`) does not have. Tells what it cannot end, or is not sure of. */
  sweep(
    known: readonly Connection[],
    options: { readonly dryRun: boolean; readonly signal: AbortSignal },
  ): Promise<readonly Leftover[]>;
}

export type MountSpec = {
  /** Where the mount becomes visible. Its last directory is made by `mount` and removed by `unmount`; the parents exist. */
  readonly path: string;
  readonly idmap: Idmap;
  /** The host ids of the instance: the map may not leave them. */
  readonly within: { readonly uid: readonly IdRange[]; readonly gid: readonly IdRange[] };
  readonly idBase: number;
  readonly readOnly: boolean;
  /** A root file system keeps setuid programs; everything else is mounted nosuid. Both are nodev. */
  readonly role: 'root' | 'volume';
};

export type Mounted = { readonly path: string; readonly devno: string; readonly mountId: bigint };

/** `sizeBytes`: of the device, which the file system fills now. */
export type Grown = { readonly sizeBytes: number; readonly changed: boolean };

export type Holder = { readonly pid: number; readonly comm: string; readonly how: string };

/** Mounts with a map. Every mount of shiftvol passes through `mount`, which has the one guard. */
export interface Mounter {
  /**
   * A loop device of a regular file (autoclear; at most one an image), or a block device as it is, probed.
   * @throws SV_VOLUME_NOT_FOUND; SV_VOLUME_IN_USE: mounted, or on another loop device; SV_IMAGE_REFUSED: not a clean ext4, xfs or btrfs
   */
  openDevice(image: ImageRef, options: OpenOptions): Promise<BlockDevice>;
  /** Opens what a spare holds as `openDevice` does, and mounts it where nobody sees it: `mount` has the rest to do. @throws as both */
  stage(image: ImageRef, known: Pick<Template, 'fsType' | 'uuid'>, signal?: AbortSignal): Promise<BlockDevice>;
  /**
   * Mounts with a fresh superblock, maps, verifies, places. Visible only when complete. Mounted there already from this device is success.
   * @throws SV_MOUNT with the kernel's reason; SV_IDMAP_INVALID; SV_IMAGE_REFUSED: the root directory's owner is no id of the map (a wrong idBase)
   */
  mount(device: BlockDevice, spec: MountSpec, signal?: AbortSignal): Promise<Mounted>;
  /**
   * Makes the file system at `path` as large as its device, while it is in use: all who see it see its size at once. As large already is
   * success. @throws SV_GROW with the kernel's reason: by its format it cannot become so large
   */
  grow(path: string, fsType: FsType): Promise<Grown>;
  /** Makes an image, and the loop device of it, larger while it is in use; never smaller. A block device is as large as it is. Returns bytes. */
  enlarge(image: ImageRef, sizeBytes: number): Promise<number>;
  /** Bytes of an image or device. @throws SV_VOLUME_NOT_FOUND */
  sizeOf(image: ImageRef): Promise<number>;
  /** What is mounted at exactly this path, if anything. One statx, nothing that grows with the number of mounts. */
  inspect(path: string): Promise<Mounted | undefined>;
  /** umount2, then rmdir of the one directory. Nothing mounted or no directory is success. @throws SV_BUSY naming the holders */
  unmount(path: string, options: { lazy: boolean; signal?: AbortSignal }): Promise<void>;
  /** Waits until no loop device has this image any more. A device image is free at once. @throws SV_BUSY naming who still has it */
  released(image: ImageRef, options: { timeoutMs: number; signal?: AbortSignal }): Promise<void>;
  /**
   * Unmounts `target` inside a running instance's mount namespace, if it is the mount of `devno`; anything else there is left alone.
   * The atomic test for "nobody uses it". @throws SV_BUSY naming the holders; nothing changed then
   */
  unmountInside(pid: number, target: string, devno: string, options: { lazy: boolean }): Promise<void>;
}

export type Instance = {
  readonly key: InstanceKey;
  readonly runtime: string;
  readonly project: string;
  readonly name: string;
  readonly uuid?: string;
  readonly running: boolean;
  /** Of its init, in the host's pid namespace. Only while it runs. */
  readonly pid?: number;
  /** Container id -> host id: of the running init, else what the runtime will give it at its next start. */
  readonly idmap: Idmap;
  /** Where its root file system has to be mounted, if that is ours to do. */
  readonly rootPath?: string;
};

/** A device as the runtime's configuration has it. */
export type RuntimeDevice = {
  readonly instance: InstanceKey;
  readonly project: string;
  readonly name: string;
  readonly device: string;
  readonly hostPath: string;
  readonly target: string;
};

/** Host ids that are spoken for, and by whom. */
export type UsedRange = IdRange & { readonly kind: 'uid' | 'gid'; readonly owner: string };

/** Anything that knows of host ids in use: a runtime's configured instances, live user namespaces, other tools' files. */
export interface RangeSource {
  readonly name: string;
  usedRanges(signal?: AbortSignal): Promise<readonly UsedRange[]>;
}

/** A container runtime on this host. */
export interface Runtime extends RangeSource {
  /**
   * The instance, or undefined where there is none of this name here.
   * @throws SV_RUNTIME_UNSUPPORTED: privileged, or no idmapped mounts; SV_RUNTIME: not reachable
   */
  find(ref: InstanceRef, signal?: AbortSignal): Promise<Instance | undefined>;
  /**
   * Hands a mounted directory to an instance; a stopped one gets it at its next start. There already and equal is success.
   * @throws SV_TARGET_TAKEN: another device has this target; SV_RUNTIME
   */
  addDevice(
    instance: Instance,
    device: { name: string; hostPath: string; target: string; readOnly: boolean },
    signal?: AbortSignal,
  ): Promise<void>;
  /** "Not there", or no such instance, is success. */
  removeDevice(ref: InstanceRef, name: string, signal?: AbortSignal): Promise<void>;
  /** All devices whose name begins with `prefix`, over all projects, for recover. */
  devices(prefix: string, signal?: AbortSignal): Promise<readonly RuntimeDevice[]>;
}

/** Ids that an instance owns from its reservation until it is destroyed. `uid.count` equals `gid.count`. */
export type Allocation = {
  readonly instance: InstanceKey;
  readonly uid: IdRange;
  readonly gid: IdRange;
  readonly createdAt: string;
};

/** One command as it was asked, kept so that the same request twice happens once. */
export type RequestRecord = {
  readonly id: string;
  readonly action: Action;
  readonly result:
    | { readonly state: 'open' }
    | { readonly state: 'done'; readonly outcome: Outcome; readonly attachment?: AttachmentId }
    | { readonly state: 'failed'; readonly error: ErrorReport };
};

/** What else becomes true in the same transaction. */
export type Also = {
  readonly request?: RequestRecord;
  readonly events?: readonly AttachmentEvent[];
  readonly allocate?: Allocation;
  readonly release?: InstanceKey;
};

/**
 * The journal: what will be done (before) and what came out (after). Every method is one transaction and has happened when it
 * returns: it survives the death of the process. `flushed` says when it survives a power cut too, which is waited for where the effect
 * would: before a snapshot is mounted or removed, and before an outcome is told.
 */
export interface Journal {
  list(instance?: InstanceKey): readonly Attachment[];
  find(id: AttachmentId): Attachment | undefined;
  /** All attachments whose plan has this as its reference to the instance, whatever the project. */
  withRef(ref: string): readonly Attachment[];
  /** All attachments of this image or device. */
  withImage(path: string): readonly Attachment[];
  /** Writes the intent: the plan, in state `attaching`. Replaces one of the same id. */
  begin(plan: Plan, also: Also): void;
  /** Notes that `step` begins. */
  step(id: AttachmentId, step: StepName): void;
  settle(id: AttachmentId, status: AttachmentState, also: Also): void;
  /** The attachment is gone. */
  remove(id: AttachmentId, also: Also): void;
  /** Tasks that have begun and not ended: of all instances, or of one. */
  tasks(instance?: InstanceKey): readonly Task[];
  /** Writes the intent of a task, or what it has come to. */
  noteTask(task: Task, also: Also): void;
  /** The task has ended, well or undone. */
  endTask(id: Task['id'], also: Also): void;
  request(id: string): RequestRecord | undefined;
  /** For outcomes that change no attachment. */
  record(also: Also): void;
  /** The request has not happened: forgotten, so that asking again does it. Opening the journal does so with all that were open. */
  forgetRequest(id: string): void;
  allocation(instance: InstanceKey): Allocation | undefined;
  allocations(): readonly Allocation[];
  /** Resolves when all that was written before this call is on the disk. @throws SV_STORE */
  flushed(): Promise<void>;
}
