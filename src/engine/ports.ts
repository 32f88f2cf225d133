/** The interfaces that the engine needs. It owns them; back ends, mounts, runtimes and the journal satisfy them. */

import type { ErrorReport } from '../errors.ts';
import type { Idmap, IdRange } from '../idmap/idmap.ts';
import type {
  Action,
  Attachment,
  AttachmentEvent,
  AttachmentId,
  AttachmentState,
  FsType,
  InstanceKey,
  InstanceRef,
  Outcome,
  Plan,
  StepName,
  Task,
} from './model.ts';

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
  /** Whether one can become this large, mounted as it is. */
  canBe(template: Template, sizeBytes: number | undefined): boolean;
  /** Makes it the snapshot of this name, while it may be in use. False: there is one of this name, or the spare is gone. */
  give(path: string, snapshot: string): boolean;
  /** "Not there" is success. */
  remove(path: string): void;
  /** Removes all that no device has in use. */
  sweep(): void;
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
  /**
   * Makes an image, and the loop device of it, larger while it is in use; never smaller. A block device is as large as it is. Returns bytes.
   * `device`: the loop device, where it is known; else all are looked through.
   */
  enlarge(image: ImageRef, sizeBytes: number, device?: BlockDevice): Promise<number>;
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
