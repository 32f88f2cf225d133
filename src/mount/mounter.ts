import type { FsType } from '../engine/model.ts';
import type {
  BlockDevice,
  Grown,
  ImageRef,
  Mounted,
  Mounter,
  MountSpec,
  OpenOptions,
  Template,
} from '../engine/ports.ts';
import { KernelLogs } from '../kernel/kmsg.ts';
import { statxIfThere } from '../kernel/statx.ts';
import { freshMount } from './fresh.ts';
import { enlarge, grow, sizeOf } from './grow.ts';
import { guardUnseen } from './guard.ts';
import { Inside } from './inside.ts';
import { openBlock } from './open-block.ts';
import { openFile } from './open-file.ts';
import { mountedAt, place } from './place.ts';
import { released } from './released.ts';
import { StagedDevice } from './staged.ts';
import { unmount } from './unmount.ts';
import { UsernsCache } from './userns-cache.ts';

export type MounterDeps = {
  /** `/proc`, `/sys`; others for tests of what is read there. */
  readonly procRoot?: string;
  readonly sysRoot?: string;
  /** Start the thread for detaches (8 MiB, 60 ms) with the first volume, so that no detach waits for it. For what lives long. */
  readonly warm?: boolean;
};

/**
 * Mounts with a map, by this kernel. Keeps no state of its own but a few descriptors and one thread: what is mounted, and
 * whether it is ours, the kernel is asked each time, so that it makes no difference who was killed in between.
 */
export class KernelMounter implements Mounter, AsyncDisposable {
  readonly #deps: {
    readonly procRoot: string;
    readonly sysRoot: string;
    readonly namespaces: UsernsCache;
    readonly logs: KernelLogs;
  };
  readonly #inside: Inside;
  readonly #warm: boolean;

  constructor(deps: MounterDeps = {}) {
    this.#deps = {
      procRoot: deps.procRoot ?? '/proc',
      sysRoot: deps.sysRoot ?? '/sys',
      namespaces: new UsernsCache(),
      logs: new KernelLogs(),
    };
    this.#inside = new Inside(this.#deps);
    this.#warm = deps.warm ?? false;
  }

  async openDevice(image: ImageRef, options: OpenOptions): Promise<BlockDevice> {
    options.signal?.throwIfAborted();
    const { readOnly, known, signal } = options;
    return image.kind === 'file'
      ? openFile(image.path, { ...this.#deps, readOnly, known, signal })
      : openBlock(image.path, { ...this.#deps, readOnly });
  }

  async stage(image: ImageRef, known: Pick<Template, 'fsType' | 'uuid'>, signal?: AbortSignal): Promise<BlockDevice> {
    await using scope = new AsyncDisposableStack();
    const device = scope.use(await this.openDevice(image, { readOnly: false, known, ...(signal && { signal }) }));
    const mount = await freshMount(this.#deps.logs, device, guardUnseen(device.fsType), () => undefined);
    scope.move();
    return new StagedDevice(device, mount);
  }

  async mount(device: BlockDevice, spec: MountSpec, signal?: AbortSignal): Promise<Mounted> {
    signal?.throwIfAborted();
    const mounted = await place(this.#deps, device, spec, signal);
    // One that does not start now says so at the detach.
    if (this.#warm && spec.role === 'volume') this.#inside.warm().catch(() => undefined);
    return mounted;
  }

  async grow(path: string, fsType: FsType): Promise<Grown> {
    return await grow(this.#deps, path, fsType);
  }

  async enlarge(image: ImageRef, sizeBytes: number, device?: BlockDevice): Promise<number> {
    return enlarge(this.#deps, image, sizeBytes, device);
  }

  async sizeOf(image: ImageRef): Promise<number> {
    return sizeOf(this.#deps, image);
  }

  async inspect(path: string): Promise<Mounted | undefined> {
    const status = statxIfThere(path);
    return status?.mountRoot === true ? mountedAt(path, status) : undefined;
  }

  async unmount(path: string, options: { lazy: boolean; signal?: AbortSignal }): Promise<void> {
    options.signal?.throwIfAborted();
    await unmount(this.#deps, path, options);
  }

  async released(image: ImageRef, options: { timeoutMs: number; signal?: AbortSignal }): Promise<void> {
    await released(this.#deps, image, options);
  }

  async unmountInside(pid: number, target: string, devno: string, options: { lazy: boolean }): Promise<void> {
    await this.#inside.unmount({ pid, target, devno, lazy: options.lazy });
  }

  /** Closes the descriptors and ends the thread. Mounts and devices stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inside[Symbol.asyncDispose]();
    this.#deps.namespaces[Symbol.dispose]();
    this.#deps.logs[Symbol.dispose]();
  }
}
