/** A host in memory, behind the interfaces that the engine owns: what is mounted, cloned and handed over, and by whom. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { Allocator } from '../../../src/engine/allocator.ts';
import type { EngineDeps } from '../../../src/engine/deps.ts';
import { Engine } from '../../../src/engine/engine.ts';
import type { AttachmentId, InstanceKey, InstanceRef } from '../../../src/engine/model.ts';
import type {
  Backend,
  BlockDevice,
  ImageRef,
  Instance,
  Mounter,
  MountSpec,
  Runtime,
  Template,
} from '../../../src/engine/ports.ts';
import type { WrapStep } from '../../../src/engine/saga.ts';
import { Spares } from '../../../src/engine/spares.ts';
import type { Connections, Freezer, SavedImage, SavedImages, VolumeCopier } from '../../../src/engine/volume-ports.ts';
import { ShiftvolError } from '../../../src/errors.ts';
import { bothKinds } from '../../../src/idmap/compose.ts';
import { Store } from '../../../src/store/journal.ts';

export const TEMPLATE: Template = {
  name: 'web',
  fsType: 'ext4',
  uuid: '11111111-2222-3333-4444-555555555555',
  label: '',
  sizeBytes: 1 << 20,
  idBase: 0,
  sha256: '0'.repeat(64),
  extents: 1,
  path: '/pool/templates/web/image',
  createdAt: '2026-01-01T00:00:00.000Z',
};

/** What survives the death of the engine. */
export class FakeHost {
  readonly snapshots = new Set<string>();
  /** Names of the volumes that are connected. */
  readonly connected = new Set<string>();
  /** Whether this host itself asked for its connections. */
  own = true;
  /** What a connection of this name waits for. */
  readonly connecting = new Map<string, Promise<void>>();
  /** File systems that are other ones by now, by the name of their connection. */
  readonly uuids = new Map<string, string>();
  /** Saved snapshots by attachment and name, and clones without a name yet: whether nobody could write while each was made. */
  readonly saved = new Map<string, boolean>();
  readonly clones = new Map<string, boolean>();
  readonly frozen = new Set<string>();
  readonly restored: string[] = [];
  /** The method of saved images that does not come back, as if the engine died in it; and the one that is in it. */
  hangs: 'clone' | 'keep' | undefined;
  hanging: 'clone' | 'keep' | undefined;
  /** Mounts that were grown, in their order. */
  readonly grown: string[] = [];
  /** Bytes of images that are not as large as they were made. */
  readonly sizes = new Map<string, number>();
  readonly mounts = new Map<string, { image: string; devno: string; extents: number }>();
  readonly devices = new Map<string, { hostPath: string; target: string; project: string; name: string }>();
  readonly instances = new Map<string, Instance>();
  /** Targets inside containers that a process holds. */
  readonly busyInside = new Set<string>();
  readonly busyOutside = new Set<string>();
  /** Paths of spares that nobody has. */
  readonly spares = new Set<string>();
  readonly staged = new Set<string>();
  #nextSpare = 0;
  readonly #given = new Map<string, string>();
  #nextDevice = 0;
  readonly #opened = new Map<string, string>();

  addInstance(name: string, base: number): void {
    const map = bothKinds(0, base, 65536);
    this.instances.set(name, {
      key: name as InstanceKey,
      runtime: 'fake',
      project: 'default',
      name,
      running: true,
      pid: 4242,
      idmap: map,
    });
  }

  backend(): Backend {
    return {
      name: 'fake',
      getTemplate: async name => {
        if (name === TEMPLATE.name) return TEMPLATE;
        throw new ShiftvolError('SV_TEMPLATE_NOT_FOUND', `Cannot find template "${name}"`);
      },
      snapshotPath: name => `/pool/snapshots/${name}`,
      snapshot: async (_template, name) => {
        this.snapshots.add(name);
        return { path: `/pool/snapshots/${name}` };
      },
      removeSnapshot: async name => {
        const image = `/pool/snapshots/${name}`;
        assert.ok(![...this.mounts.values()].some(m => m.image === image), 'a snapshot is never removed under a mount');
        this.snapshots.delete(name);
      },
      adoptSnapshot: async (_image, name) => {
        this.snapshots.add(name);
      },
      listSnapshots: async () => [...this.snapshots],
      spares: {
        make: async () => {
          const path = `/pool/spares/${this.#nextSpare++}`;
          this.spares.add(path);
          return path;
        },
        canBe: () => true,
        give: (path, snapshot) => {
          if (!this.spares.delete(path) || this.snapshots.has(snapshot)) return false;
          this.snapshots.add(snapshot);
          this.#given.set(path, `/pool/snapshots/${snapshot}`);
          return true;
        },
        remove: path => void this.spares.delete(path),
        sweep: () => this.spares.clear(),
      },
    };
  }

  connections(): Connections {
    const image = ({ kind, name }: { kind: ImageRef['kind']; name: string }): ImageRef => ({
      kind,
      path: `/here/${name}`,
    });
    return {
      isOwn: () => this.own,
      connect: async connection => {
        await this.connecting.get(connection.name);
        this.connected.add(connection.name);
        return image(connection);
      },
      find: async connection => (this.connected.has(connection.name) ? image(connection) : undefined),
      disconnect: async connection => {
        const { path } = image(connection);
        assert.ok(![...this.mounts.values()].some(m => m.image === path), 'a volume never goes from under a mount');
        this.connected.delete(connection.name);
      },
      extend: async () => 1 << 20,
    };
  }

  savedImages(): SavedImages {
    const key = (of: string, name: string) => `${of}/${name}`;
    const image = (of: AttachmentId, name: string): SavedImage | undefined =>
      this.saved.has(key(of, name))
        ? {
            attachment: of,
            name,
            path: `/pool/saved/${key(of, name)}`,
            sizeBytes: 1 << 20,
            createdAt: TEMPLATE.createdAt,
          }
        : undefined;
    return {
      find: image,
      list: async of =>
        [...this.saved.keys()].flatMap(id => {
          const [owner = '', name = ''] = id.split('/');
          const found = of === undefined || of === owner ? image(owner as AttachmentId, name) : undefined;
          return found ? [{ ...found, exclusiveBytes: 0, sharedBytes: 1 << 20 }] : [];
        }),
      clone: async (path, of, name) => {
        const mounted = [...this.mounts].find(([, m]) => m.image === path);
        this.clones.set(key(of, name), mounted === undefined || this.frozen.has(mounted[0]));
        await this.#hang('clone');
        return { path: `/pool/saved/.${key(of, name)}`, sizeBytes: 1 << 20 };
      },
      keep: async (of, name) => {
        await this.#hang('keep');
        this.saved.set(key(of, name), this.clones.get(key(of, name)) ?? false);
        this.clones.delete(key(of, name));
      },
      discard: async (of, name) => void this.clones.delete(key(of, name)),
      remove: async (of, name) => void this.saved.delete(key(of, name)),
      sweep: async () => undefined,
      restore: async (of, name, path) => {
        assert.ok(this.saved.has(key(of, name)));
        assert.ok(![...this.mounts.values()].some(m => m.image === path), 'an image is never replaced under a mount');
        this.restored.push(`${path} ${name}`);
      },
      growUnmounted: async (_of, path) => {
        assert.ok(![...this.mounts.values()].some(m => m.image === path), 'an image is never replaced under a mount');
        this.restored.push(`${path} grown`);
      },
      discardRestore: async () => undefined,
      read: () => Readable.from(['']),
    };
  }

  async #hang(method: 'clone' | 'keep'): Promise<void> {
    if (this.hangs !== method) return;
    this.hanging = method;
    await new Promise(() => undefined);
  }

  freezer(): Freezer {
    return {
      freeze: async paths => {
        for (const path of paths) this.frozen.add(path);
        const { promise: ended, resolve } = Promise.withResolvers<void>();
        const host = this;
        const over = async () => {
          for (const path of paths) host.frozen.delete(path);
          resolve();
          return { frozenMs: 1 };
        };
        return {
          get isFrozen() {
            return paths.every(path => host.frozen.has(path));
          },
          ended,
          thaw: over,
          [Symbol.asyncDispose]: async () => void (await over()),
        };
      },
      thaw: async path => this.frozen.delete(path),
    };
  }

  /** What is on a volume, by its path, once something is: and what a copy found there. */
  readonly contents = new Map<string, string>();
  /** Done before a copy ends. */
  copying: () => Promise<void> = async () => undefined;

  copier(): VolumeCopier {
    return {
      isBlank: async ({ path }) => !this.contents.has(path),
      bytesToRead: async (_, sizeBytes) => sizeBytes,
      copy: async (from, to) => {
        const mounted = [...this.mounts].find(([, m]) => m.image === from.path);
        assert.ok(mounted === undefined || this.frozen.has(mounted[0]), 'nobody writes to what is copied');
        assert.ok(![...this.mounts.values()].some(m => m.image === to.path), 'a copy is never seen half');
        await this.copying();
        const nameOf = ({ path }: ImageRef) => path.replace(/^\/here\//, '');
        return {
          complete: async () => {
            this.contents.set(to.path, this.contents.get(from.path) ?? '');
            this.uuids.set(nameOf(to), this.uuids.get(nameOf(from)) ?? from.path);
          },
        };
      },
    };
  }

  mounter(): Mounter {
    const mountedFrom = (image: ImageRef) => [...this.mounts.values()].find(m => m.image === image.path);
    return {
      openDevice: async image => {
        const existing = mountedFrom(image);
        const devno = existing?.devno ?? `7:${this.#nextDevice++}`;
        this.#opened.set(devno, image.path);
        return {
          path: `/dev/loop${devno.slice(2)}`,
          devno,
          fsType: 'ext4',
          uuid: this.uuids.get(image.path.replace(/^\/here\//, '')) ?? image.path,
          async [Symbol.asyncDispose]() {},
        } satisfies BlockDevice;
      },
      stage: async ({ path }) => {
        const devno = `7:${this.#nextDevice++}`;
        this.#opened.set(devno, path);
        this.staged.add(devno);
        const letGo = () => this.staged.delete(devno);
        return {
          path: `/dev/loop${devno.slice(2)}`,
          devno,
          fsType: 'ext4',
          uuid: path,
          async [Symbol.asyncDispose]() {
            letGo();
          },
        } satisfies BlockDevice;
      },
      mount: async (device, spec: MountSpec) => {
        const opened = this.#opened.get(device.devno) ?? '';
        const image = this.#given.get(opened) ?? opened;
        this.mounts.set(spec.path, { image, devno: device.devno, extents: spec.idmap.length });
        return { path: spec.path, devno: device.devno, mountId: 1n };
      },
      grow: async path => {
        assert.ok(this.mounts.has(path), 'what is not mounted cannot grow');
        this.grown.push(path);
        return { sizeBytes: 1 << 21, changed: true };
      },
      enlarge: async ({ path }, sizeBytes) => {
        this.sizes.set(path, Math.max(sizeBytes, this.sizes.get(path) ?? 1 << 20));
        return this.sizes.get(path) ?? 0;
      },
      sizeOf: async ({ path }) => this.sizes.get(path) ?? 1 << 20,
      inspect: async path => {
        const mounted = this.mounts.get(path);
        return mounted && { path, devno: mounted.devno, mountId: 1n };
      },
      unmount: async (path, { lazy }) => {
        if (this.busyOutside.has(path) && !lazy)
          throw new ShiftvolError('SV_BUSY', `Cannot unmount "${path}": process 1 (host)`);
        this.mounts.delete(path);
      },
      released: async image => {
        if (mountedFrom(image)) throw new ShiftvolError('SV_BUSY', `Cannot release "${image.path}"`);
      },
      unmountInside: async (_pid, target, _devno, { lazy }) => {
        if (this.busyInside.has(target) && !lazy)
          throw new ShiftvolError('SV_BUSY', `Cannot unmount "${target}": process 77 (sleep)`);
      },
    };
  }

  runtime(): Runtime {
    return {
      name: 'fake',
      find: async ({ ref }: InstanceRef) => this.instances.get(ref),
      addDevice: async (instance, { name, hostPath, target }) => {
        assert.ok(this.mounts.has(hostPath), 'a container never sees what is not mounted');
        this.devices.set(name, { hostPath, target, project: instance.project, name: instance.name });
      },
      removeDevice: async (_ref, name) => {
        this.devices.delete(name);
      },
      devices: async prefix =>
        [...this.devices]
          .filter(([device]) => device.startsWith(prefix))
          .map(([device, d]) => ({ ...d, device, instance: d.name as InstanceKey })),
      usedRanges: async () =>
        [...this.instances.values()].flatMap(i =>
          i.idmap.map(e => ({ kind: e.kind, start: e.hostId, count: e.count, owner: i.name })),
        ),
    };
  }

  assertClean(): void {
    assert.deepEqual(
      {
        snapshots: [...this.snapshots],
        mounts: [...this.mounts.keys()],
        devices: [...this.devices.keys()],
        connected: [...this.connected],
        clones: [...this.clones.keys()],
        frozen: [...this.frozen],
        spares: [...this.spares],
        staged: [...this.staged],
      },
      { snapshots: [], mounts: [], devices: [], connected: [], clones: [], frozen: [], spares: [], staged: [] },
    );
  }
}

export type Rig = Disposable & {
  readonly host: FakeHost;
  spares: Spares | undefined;
  engine: Engine;
  store: Store;
  restart(wrapStep?: WrapStep): void;
};

/** An engine with a real journal on a host in memory; `restart` is what a kill and a new start leave of it. */
export function makeRig(wrapStep?: WrapStep, poolCount = 10 * 65536, spareCount = 0): Rig {
  const stateDir = mkdtempSync(join(tmpdir(), 'shiftvol-engine-'));
  const host = new FakeHost();
  const pool = { uid: [{ start: 1_000_000, count: poolCount }], gid: [{ start: 1_000_000, count: poolCount }] };
  const open = (wrap?: WrapStep) => {
    const store = new Store({ stateDir, lockTimeoutMs: 1000, outbox: true });
    const runtimes = [host.runtime()];
    const allocator = new Allocator({ journal: store, pool: async () => pool, sources: runtimes, rangeSize: 65536 });
    const deps: EngineDeps = {
      host: 'node1',
      runDir: '/run/sv',
      parallel: 4,
      freezeDeadlineMs: 5000,
      copyFreezeMs: 5000,
      journal: store,
      backend: host.backend(),
      connections: host.connections(),
      saved: host.savedImages(),
      freezer: host.freezer(),
      copier: host.copier(),
      mounter: host.mounter(),
      runtimes,
      allocator,
    };
    const { backend, mounter } = deps;
    const onError = assert.ifError;
    const spares = spareCount > 0 ? new Spares({ backend, mounter, count: spareCount, onError }) : undefined;
    const engine = new Engine({ ...deps, ...(wrap && { wrapStep: wrap }), ...(spares && { spares }) });
    return { store, spares, engine };
  };
  const rig: Rig = {
    host,
    ...open(wrapStep),
    restart(wrap) {
      rig.store[Symbol.dispose]();
      host.staged.clear();
      Object.assign(rig, open(wrap));
    },
    [Symbol.dispose]() {
      rig.store[Symbol.dispose]();
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
  return rig;
}
