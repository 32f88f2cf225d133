/** Saved snapshots of what is attached. */
import type { Readable } from 'node:stream';
import { ShiftvolError } from '../errors.ts';
import type { EngineDeps } from './deps.ts';
import { isAttached } from './extend.ts';
import type { Attachment, AttachmentId, InstanceKey, InstanceRef, Task } from './model.ts';
import { attachmentId } from './plan.ts';
import type { PreviewStep } from './preview.ts';
import type { InOrder } from './queue.ts';
import { attachmentNotFound, unfinished } from './refuse.ts';
import { resolve } from './resolve.ts';
import type { FreezeOptions, Standstills } from './standstills.ts';
import type { Tasks } from './tasks.ts';
import type { SavedImage, SavedImageWithUse } from './volume-ports.ts';

/** Which attachment: its id, or its instance and target. */
export type Place = { readonly instance: InstanceRef; readonly target?: string };
/** `frozenMs`: how long nobody could write; 0 for what was not mounted. `idBase`: first id on disk, while the attachment is known. */
export type Saved = SavedImage & { readonly frozenMs: number; readonly idBase?: number };
/** The bytes of a snapshot that is gone when this is disposed of. `path`: the file that they come from. */
export type ImageStream = AsyncDisposable & {
  readonly stream: Readable;
  readonly sizeBytes: number;
  readonly path: string;
};

/** Of an attachment as it was then. */
export type BorrowedImage = AsyncDisposable & Copy & { readonly attachment: Attachment };

export type SnapshotPreview = {
  readonly dryRun: true;
  readonly action: 'create' | 'restore' | 'remove';
  readonly steps: readonly PreviewStep[];
};

type Copy = { readonly path: string; readonly sizeBytes: number; readonly frozenMs: number };

export class Snapshots {
  readonly #deps: EngineDeps;
  readonly #tasks: Tasks;
  readonly #inOrder: InOrder;
  readonly #standstills: Standstills;
  #exports = 0;

  constructor(deps: EngineDeps, tasks: Tasks, standstills: Standstills, inOrder: InOrder) {
    this.#deps = deps;
    this.#standstills = standstills;
    this.#tasks = tasks;
    this.#inOrder = inOrder;
  }

  /**
   * Saves what an attachment holds at one moment: all that was synced before, in a state that mounts. While it is in use its file system
   * is frozen, at most until the deadline.
   * @throws SV_SNAPSHOT_EXISTS; SV_TIMEOUT: more is written than the deadline allows; SV_IMAGE_REFUSED: not an image in the pool
   */
  async create(place: Place, name: string, { deadlineMs, signal }: FreezeOptions): Promise<Saved> {
    return await this.#with(place, signal, async attachment => {
      const { plan } = attachment;
      const { saved } = this.#deps;
      if (saved.find(plan.id, name)) throw exists(plan.id, name);
      await saved.sweep();
      return await this.#tasks.run(this.#task(attachment, name), async () => {
        const { frozenMs } = await this.#copy(attachment, name, deadlineMs, signal);
        await saved.keep(plan.id, name);
        return { ...this.#get(plan.id, name), frozenMs, idBase: plan.idBase };
      });
    });
  }

  /** All, or those of one attachment, which may be gone. */
  async list(place: Place | undefined, signal: AbortSignal): Promise<readonly SavedImageWithUse[]> {
    return await this.#deps.saved.list(place && (await this.#locate(place, signal)).id);
  }

  /** @throws SV_SNAPSHOT_NOT_FOUND */
  async find(place: Place, name: string, signal: AbortSignal): Promise<Saved> {
    const { id } = await this.#locate(place, signal);
    const attachment = this.#deps.journal.find(id);
    return { ...this.#get(id, name), frozenMs: 0, ...(attachment && { idBase: attachment.plan.idBase }) };
  }

  /**
   * Puts a snapshot into the place of what the attachment holds. The snapshot stays.
   * @throws SV_BUSY: the instance runs, with it attached; SV_SNAPSHOT_NOT_FOUND
   */
  async restore(place: Place, name: string, signal: AbortSignal): Promise<SavedImage> {
    return await this.#with(place, signal, async attachment => {
      const { plan } = attachment;
      const found = this.#get(plan.id, name);
      if (isAttached(attachment)) await this.#requireStopped(attachment, signal);
      const { instance, id } = plan;
      await this.#tasks.restore(
        { id: `restore-${id}`, kind: 'restore', instance, attachment: id, name, replaced: false },
        attachment,
        signal,
      );
      return found;
    });
  }

  /** @throws SV_SNAPSHOT_NOT_FOUND */
  async remove(place: Place, name: string, signal: AbortSignal): Promise<SavedImage> {
    const { id, key } = await this.#locate(place, signal);
    return await this.#inOrder(key, async () => {
      const found = this.#get(id, name);
      await this.#deps.saved.remove(id, name);
      return found;
    });
  }

  /** What would be done. Looks, and changes nothing. @throws what it would be refused with */
  async preview(
    action: 'create' | 'restore' | 'remove',
    place: Place,
    name: string,
    signal: AbortSignal,
  ): Promise<SnapshotPreview> {
    const { id } = await this.#locate(place, signal);
    const { journal, saved } = this.#deps;
    const attachment = journal.find(id);
    if (action === 'remove') {
      const { path } = this.#get(id, name);
      return { dryRun: true, action, steps: [{ step: 'remove', call: 'unlink', object: path }] };
    }
    if (!attachment) throw attachmentNotFound(nameOf(place));
    requireImage(attachment);
    const { image, mountPath, readOnly } = attachment.plan;
    if (action === 'create') {
      if (saved.find(id, name)) throw exists(id, name);
      const clone = { step: 'clone', call: 'ioctl(FICLONE)', object: `${image.path} -> ${name}` };
      if (!isAttached(attachment) || readOnly) return { dryRun: true, action, steps: [clone] };
      const freeze = { step: 'freeze', call: 'ioctl(FIFREEZE)', object: mountPath };
      const thaw = { step: 'thaw', call: 'ioctl(FITHAW)', object: mountPath };
      return { dryRun: true, action, steps: [freeze, clone, thaw] };
    }
    const { path } = this.#get(id, name);
    if (isAttached(attachment)) await this.#requireStopped(attachment, signal);
    const replace = [
      { step: 'clone', call: 'ioctl(FICLONE)', object: `${path} -> ${image.path}` },
      { step: 'replace', call: 'rename', object: image.path },
    ];
    if (!isAttached(attachment)) return { dryRun: true, action, steps: replace };
    const unmount = { step: 'unmount', call: 'umount2', object: mountPath };
    const mount = { step: 'mount', call: 'fsopen+fsconfig+fsmount+move_mount', object: mountPath };
    return { dryRun: true, action, steps: [unmount, ...replace, mount] };
  }

  /** What an attachment holds at one moment, as a stream of a raw image, for instance to upload it. Nothing is left of it when disposed of. */
  async exportImage(place: Place, options: FreezeOptions): Promise<ImageStream> {
    const { path, sizeBytes, [Symbol.asyncDispose]: end } = await this.borrow(place, options);
    const stream = this.#deps.saved.read(path, options.signal);
    return {
      stream,
      sizeBytes,
      path,
      [Symbol.asyncDispose]: async () => {
        stream.destroy();
        await end();
      },
    };
  }

  /** The same as a file, for who reads it in his own way; gone when disposed of, and after a crash by `recover`. */
  async borrow(place: Place, { deadlineMs, signal }: FreezeOptions): Promise<BorrowedImage> {
    const name = `export-${process.pid}-${this.#exports++}`;
    return await this.#with(place, signal, async attachment => {
      const { id } = attachment.plan;
      const task = this.#task(attachment, name);
      const lease = this.#tasks.keep(task);
      const end = () => lease.end(() => this.#deps.saved.discard(id, name));
      try {
        const copy = await this.#copy(attachment, name, deadlineMs, signal);
        return { ...copy, attachment, [Symbol.asyncDispose]: end };
      } catch (error) {
        await end();
        throw error;
      }
    });
  }

  #task({ plan, status }: Attachment, name: string): Task {
    const { id, instance, mountPath, readOnly } = plan;
    const frozen =
      status.state === 'attached' && !readOnly && !this.#standstills.of(plan.instance, mountPath) ? [mountPath] : [];
    return { id: `snapshot-${id}-${name}`, kind: 'snapshot', instance, attachment: id, name, frozen };
  }

  /** A clone without a name, made while nobody could write. */
  async #copy(
    attachment: Attachment,
    name: string,
    deadlineMs: number = this.#deps.freezeDeadlineMs,
    signal: AbortSignal,
  ): Promise<Copy> {
    const { saved, freezer } = this.#deps;
    const { plan } = attachment;
    const clone = () => saved.clone(plan.image.path, plan.id, name);
    const held = this.#standstills.of(plan.instance, plan.mountPath);
    if (held) {
      const copy = await clone();
      if (held.isFrozen) return { ...copy, frozenMs: 0 };
      throw new ShiftvolError('SV_TIMEOUT', `Cannot save "${name}": it stood still no more, since the deadline`);
    }
    if (!isAttached(attachment) || plan.readOnly) return { ...(await clone()), frozenMs: 0 };
    await using frozen = await freezer.freeze([plan.mountPath], { deadlineMs, signal });
    const copy = await clone();
    return { ...copy, ...(await frozen.thaw()) };
  }

  #get(id: AttachmentId, name: string): SavedImage {
    const found = this.#deps.saved.find(id, name);
    if (found) return found;
    throw new ShiftvolError('SV_SNAPSHOT_NOT_FOUND', `Cannot find snapshot "${name}" of attachment ${id}`, {
      field: 'name',
      remedy: '"shiftvol snapshot list" shows what there is',
    });
  }

  async #with<T>(place: Place, signal: AbortSignal, work: (attachment: Attachment) => Promise<T>): Promise<T> {
    const { id, key } = await this.#locate(place, signal);
    return await this.#inOrder(key, async () => {
      signal.throwIfAborted();
      await this.#tasks.settle(key, signal);
      const attachment = this.#deps.journal.find(id);
      if (!attachment) throw attachmentNotFound(nameOf(place));
      requireImage(attachment);
      return await work(attachment);
    });
  }

  /** Its id follows from instance and target, whether it is there or not. */
  async #locate({ instance, target }: Place, signal: AbortSignal): Promise<{ id: AttachmentId; key: InstanceKey }> {
    const { journal } = this.#deps;
    if (target === undefined && /^[0-9a-f]{16}$/.test(instance.ref)) {
      const id = instance.ref as AttachmentId;
      return { id, key: journal.find(id)?.plan.instance ?? (instance.ref as InstanceKey) };
    }
    const { key } = await resolve(this.#deps, instance, signal);
    if (target !== undefined) return { id: attachmentId(key, target), key };
    const [only, another] = journal.list(key);
    if (!only) throw attachmentNotFound(nameOf({ instance }));
    if (another)
      throw new ShiftvolError('SV_USAGE', `Cannot tell which attachment of "${instance.ref}" is meant`, {
        field: 'target',
        remedy: 'write INSTANCE:TARGET, or its id',
      });
    return { id: only.plan.id, key };
  }

  async #requireStopped({ plan }: Attachment, signal: AbortSignal): Promise<void> {
    const { instance } = await resolve(this.#deps, plan.ref, signal);
    if (!instance?.running) return;
    throw new ShiftvolError('SV_BUSY', `Cannot restore ${plan.instance}:${plan.target}: the instance runs with it`, {
      remedy: 'detach it first, or stop the instance',
    });
  }
}

/** @throws SV_IMAGE_REFUSED: a volume that another service stores */
function requireImage(attachment: Attachment): void {
  const { plan, status } = attachment;
  if (status.state !== 'attached' && status.state !== 'detached') throw unfinished(attachment);
  if (plan.source.kind !== 'connection' && plan.image.kind === 'file') return;
  throw new ShiftvolError(
    'SV_IMAGE_REFUSED',
    `Cannot take a snapshot of ${plan.instance}:${plan.target}: it is a volume that is not stored in the pool`,
    {
      field: 'attachment',
      remedy:
        plan.volumeId === undefined
          ? 'take it where the device is stored'
          : `take it in Cinder: "openstack volume snapshot create --volume ${plan.volumeId} --force NAME"`,
    },
  );
}

function exists(id: AttachmentId, name: string): ShiftvolError {
  return new ShiftvolError(
    'SV_SNAPSHOT_EXISTS',
    `Cannot save "${name}": attachment ${id} has a snapshot of this name`,
    {
      field: 'name',
      remedy: 'choose another name, or remove that one',
    },
  );
}

function nameOf({ instance, target }: Place): string {
  return `"${instance.ref}${target === undefined ? '' : `:${target}`}"`;
}
