/** The interfaces to what keeps, brings, freezes and copies volumes. The engine owns them, as those of ports.ts. */

import type { Readable } from 'node:stream';
import type { Engine } from './engine.ts';
import type { AttachmentId, AttachVolumeCommand, Connection, FsType, Outcome } from './model.ts';
import type { ImageRef } from './ports.ts';
import type { Preview } from './preview.ts';
import type { Leftover } from './recover.ts';
import type { Secrets } from './secrets.ts';

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
