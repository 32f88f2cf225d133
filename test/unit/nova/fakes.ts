/** A host in memory, behind the ports of the driver methods: what there is, what was done in which order, and what shall fail. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { RemoteError, type RpcArgs } from '../../../src/bus/rpc/endpoint.ts';
import type { Diagnostics, Machine, MachineSpec, Machines, PowerState } from '../../../src/container/machines.ts';
import {
  type Attachment,
  type Command,
  type InstanceKey,
  type Outcome,
  type Plan,
  type Source,
  sourceName,
} from '../../../src/engine/model.ts';
import { attachmentId } from '../../../src/engine/plan.ts';
import { Secrets } from '../../../src/engine/secrets.ts';
import type { SwapRequest } from '../../../src/engine/swap.ts';
import { ShiftvolError } from '../../../src/errors.ts';
import { bothKinds } from '../../../src/idmap/compose.ts';
import { novaEndpoint } from '../../../src/nova/endpoint.ts';
import type { Note, Nova } from '../../../src/nova/ports.ts';

export const UUID = '0c0ffee0-0000-4000-8000-00000000000c';
export const IMAGE = '1a6e0000-0000-4000-8000-000000000001';
export const VOLUME = '701a0000-0000-4000-8000-000000000001';
export const OTHER_VOLUME = '701a0000-0000-4000-8000-000000000002';
export const GIB = 2 ** 30;
export const never = new AbortController().signal;

/** The class that Nova would see, and its text. */
export async function raises(work: Promise<unknown>): Promise<RemoteError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof RemoteError, `raises: ${error}`);
  return error;
}

export function instance(more: object = {}): object {
  return {
    uuid: UUID,
    name: 'instance-0000000c',
    display_name: 'web server',
    hostname: 'web',
    project_id: 'p1',
    user_id: 'u1',
    host: 'node1',
    node: 'node1',
    image_ref: IMAGE,
    metadata: {},
    system_metadata: {},
    flavor: {
      name: 'm1',
      flavorid: '1',
      vcpus: 2,
      memory_mb: 512,
      root_gb: 3,
      ephemeral_gb: 0,
      swap: 0,
      extra_specs: {},
    },
    user_data: null,
    config_drive: '',
    power_state: null,
    vm_state: 'building',
    task_state: 'spawning',
    ...more,
  };
}
export const flavor = (more: object = {}) => ({
  name: 'm1',
  vcpus: 2,
  memory_mb: 512,
  root_gb: 3,
  extra_specs: {},
  ...more,
});

export function connectionInfo(volumeId = VOLUME, more: object = {}): object {
  return {
    driver_volume_type: 'nfs',
    data: {
      export: '10.0.0.1:/export',
      name: `volume-${volumeId}`,
      format: 'raw',
      access_mode: 'rw',
      encrypted: false,
      ...more,
    },
    status: 'reserved',
    serial: volumeId,
  };
}
export function devices(...volumes: readonly { id: string; boot?: boolean }[]): object {
  return {
    root_device_name: '/dev/sda',
    image: [],
    ephemerals: [],
    swap: null,
    block_device_mapping: volumes.map(({ id, boot = false }, i) => ({
      connection_info: connectionInfo(id),
      mount_device: `/dev/sd${'bcdef'[i]}`,
      attachment_id: id,
      delete_on_termination: false,
      boot_index: boot ? 0 : null,
    })),
  };
}
export const spawnArgs = (more: object = {}): RpcArgs => ({
  instance: instance(),
  image_meta: {
    id: IMAGE,
    name: 'busybox',
    disk_format: 'raw',
    container_format: 'bare',
    size: GIB,
    min_disk: 0,
    properties: {},
  },
  injected_files: [],
  allocations: {},
  network_info: [],
  block_device_info: devices(),
  power_on: true,
  accel_info: [],
  ...more,
});

export class FakeNova {
  /** What was done, in order: `create`, `spawn template …`, `attach /mnt/…`, `start`, ... */
  readonly done: string[] = [];
  /** Ids that the engine was asked under. */
  readonly requests: string[] = [];
  /** What begins with a key fails with its error, as often as it is done. */
  readonly failing = new Map<string, ShiftvolError>();
  readonly machines = new Map<string, { spec: MachineSpec; state: PowerState; vcpus: number; memoryMb: number }>();
  readonly attachments = new Map<string, Attachment>();
  readonly ranges = new Set<string>();
  readonly templates = new Map<string, number>();
  readonly notes = new Map<string, Note>();
  readonly logged: { text: string; facts: object }[] = [];
  readonly volumeMetadata = new Map<string, Readonly<Record<string, string>>>();
  /** The agent is killed before it does the thing of this number: from then on it does nothing more. */
  killedAt: number | undefined;
  /** Of an import, to be held up by a test. */
  importing: Promise<void> = Promise.resolve();
  config: Nova['config'] = { liveMigration: 'refuse', defaultTarget: '/mnt/{volume_id}', stopTimeoutMs: 30_000 };
  transfer: Nova['transfer'];
  readonly host: string;

  constructor(host = 'node1') {
    this.host = host;
    this.templates.set('there', GIB);
  }

  /** As the RPC server calls it. */
  async call(method: string, args: RpcArgs = {}, signal = never): Promise<unknown> {
    const found = this.#endpoint().methods.get(method);
    if (!found) throw new Error(`no method ${method}`);
    return await found(args, { method, requestId: 'req-1', signal });
  }

  /** Nothing of any instance is here. */
  get leftovers(): readonly string[] {
    return [...this.machines.keys(), ...this.attachments.keys(), ...this.ranges];
  }

  state(): PowerState | undefined {
    return this.machines.get(UUID)?.state;
  }

  targets(): readonly string[] {
    return [...this.attachments.values()].map(a => a.plan.target);
  }

  /** The agent starts anew, with what is set by now. */
  restart(): void {
    this.#made = undefined;
    this.killedAt = undefined;
  }

  #made: ReturnType<typeof novaEndpoint> | undefined;
  #endpoint() {
    this.#made ??= novaEndpoint(this.nova());
    return this.#made;
  }

  #requireAlive(): void {
    if (this.killedAt === undefined) return;
    if (this.killedAt-- <= 0) {
      this.killedAt = 0;
      throw new Error('killed');
    }
  }

  /** Noted, unless it shall fail. */
  #do(what: string): void {
    this.#requireAlive();
    const failure = [...this.failing].find(([beginning]) => what.startsWith(beginning))?.[1];
    if (failure) throw failure;
    this.done.push(what);
  }

  nova(): Nova {
    const log = (text: string, facts: object = {}) => void this.logged.push({ text, facts });
    return {
      host: this.host,
      version: '1.2.3',
      config: this.config,
      engine: {
        list: key => [...this.attachments.values()].filter(a => key === undefined || a.plan.instance === key),
        execute: async command => this.#execute(command),
        swapVolume: async request => this.#swap(request),
        noteMove: async ({ from }) => this.#do(`moved from ${from}`),
        reserveIds: async ({ ref }) => {
          this.#requireAlive();
          this.ranges.add(ref);
          const range = { start: 1_000_000, count: 65_536 };
          return { instance: ref as InstanceKey, uid: range, gid: range, dryRun: false };
        },
        releaseIds: async ({ ref }) => ({
          instance: ref as InstanceKey,
          released: this.ranges.delete(ref),
          dryRun: false,
        }),
      },
      machines: this.#machines(),
      connectors: {
        read: async info => {
          const { serial, data } = info as { serial: string; data: { access_mode?: string; encrypted?: boolean } };
          if (data.encrypted)
            throw new ShiftvolError('SV_CONNECTION_INFO', 'Cannot use the volume: it is encrypted', {
              field: 'encrypted',
            });
          return {
            connection: {
              type: 'nfs',
              volumeId: serial,
              name: `nfs:${serial}`,
              kind: 'file',
              readOnly: data.access_mode === 'ro',
              facts: {},
            },
            secrets: new Secrets({ password: 'hunter2' }),
          };
        },
        properties: async () => ({ ip: '10.0.0.7', host: this.host }),
      },
      images: {
        find: name => (this.templates.has(name) ? { sizeBytes: this.templates.get(name) ?? 0 } : undefined),
        import: async (imageId, name) => {
          this.#do(`import ${imageId}`);
          await this.importing;
          this.templates.set(name, GIB);
        },
        upload: async (imageId, { body, sizeBytes }) => {
          this.#do(`upload ${imageId} ${sizeBytes}`);
          body.destroy();
        },
      },
      fileSystems: {
        growRoot: async (_, sizeBytes) => this.#do(`grow root ${sizeBytes}`),
        extendVolume: async (_, volumeId, sizeBytes) => {
          if (![...this.attachments.values()].some(a => a.plan.volumeId === volumeId))
            throw new ShiftvolError('SV_ATTACHMENT_NOT_FOUND', `Cannot find an attachment for "${volumeId}"`);
          this.#do(`extend ${volumeId} ${sizeBytes}`);
        },
        freeze: async () => this.#do('freeze file systems'),
        thaw: async () => this.#do('thaw file systems'),
        openRootImage: async () => {
          this.#do('open root image');
          return {
            body: Readable.from([Buffer.from('root')]),
            sizeBytes: 4,
            diskFormat: 'qcow2',
            [Symbol.asyncDispose]: async () => this.#do('close root image'),
          };
        },
      },
      notes: {
        get: async ({ ref }) => this.notes.get(ref),
        set: async ({ ref }, note) => {
          this.#requireAlive();
          this.notes.set(ref, note);
        },
      },
      labels: {
        metadata: async id => {
          this.#do(`ask cinder ${id}`);
          return this.volumeMetadata.get(id) ?? {};
        },
      },
      ...(this.transfer && { transfer: this.transfer }),
      facts: {
        resources: async () => ({
          vcpus: 8,
          memoryMb: 16_000,
          memoryUsedMb: 2000,
          diskGb: 100,
          diskUsedGb: 10,
          diskFreeGb: 89,
          arch: 'x86_64',
          cpu: { model: 'm', vendor: 'v', sockets: 1, cores: 4, threads: 2 },
        }),
        runtime: async () => ({ name: 'LXD', version: '5.0.2' }),
        uptimeS: async () => 93_784,
      },
      log: { debug: log, info: log, warn: log },
    };
  }

  #swap({ instance: { ref }, volumeId, connection, grows }: SwapRequest): Attachment {
    const [key, found] = [...this.attachments].find(([, { plan }]) => plan.volumeId === volumeId) ?? [];
    if (!found || key === undefined)
      throw new ShiftvolError('SV_ATTACHMENT_NOT_FOUND', `Cannot find an attachment for "${volumeId}"`);
    this.#do(`swap ${volumeId} ${connection.volumeId}${grows ? ' and grow' : ''}`);
    const source = { kind: 'connection', connection } as const;
    const { target, readOnly } = found.plan;
    const swapped = attached(ref, target, source, readOnly, connection.volumeId);
    const attachment = { ...swapped, plan: { ...swapped.plan, formerVolumeId: volumeId } };
    this.attachments.set(key, attachment);
    return attachment;
  }

  #execute(command: Command): Outcome {
    if (command.requestId !== undefined) this.requests.push(command.requestId);
    const { ref } = command.instance;
    const outcome = (changed: boolean): Outcome => ({
      action: command.action,
      changed,
      attachments: [],
      durationMs: 0,
      steps: [],
    });
    const missing = (what: string) =>
      new ShiftvolError('SV_ATTACHMENT_NOT_FOUND', `Cannot find an attachment for ${what}`);
    switch (command.action) {
      case 'spawn':
      case 'attach': {
        const target = command.action === 'attach' ? command.target : '/';
        const source =
          'source' in command ? command.source : ({ kind: 'template', template: command.template } as const);
        if (!this.machines.has(ref)) throw new ShiftvolError('SV_INSTANCE_NOT_FOUND', `Cannot find instance "${ref}"`);
        const there = this.attachments.get(`${ref}:${target}`);
        if (there && sourceName(there.plan.source) !== sourceName(source))
          throw new ShiftvolError('SV_TARGET_TAKEN', `Cannot attach at ${target}: something else is attached there`);
        if (there) return outcome(false);
        this.#do(`${command.action} ${showSource(source)} at ${target}`);
        const readOnly = command.action === 'attach' && command.readOnly;
        this.attachments.set(`${ref}:${target}`, attached(ref, target, source, readOnly, command.volumeId));
        return outcome(true);
      }
      case 'detach': {
        const found = [...this.attachments].find(
          ([, { plan }]) =>
            plan.instance === ref && (plan.volumeId === command.volumeId || plan.target === command.target),
        );
        if (!found) throw missing(`"${ref}:${command.volumeId}"`);
        this.#do(`detach ${found[1].plan.target}`);
        this.attachments.delete(found[0]);
        return outcome(true);
      }
      case 'destroy': {
        const mine = [...this.attachments].filter(
          ([, { plan }]) => plan.instance === ref && (command.target === undefined || plan.target === command.target),
        );
        if (mine.length === 0 && (command.target !== undefined || !this.ranges.has(ref))) throw missing(`"${ref}"`);
        if (this.machines.get(ref)?.state === 'running')
          throw new ShiftvolError('SV_BUSY', 'Cannot destroy the root file system: the instance runs');
        this.#do(command.target === undefined ? 'destroy all' : `destroy ${command.target}`);
        for (const [key] of mine) this.attachments.delete(key);
        if (command.target === undefined) this.ranges.delete(ref);
        return outcome(true);
      }
      default:
        throw new Error(`not here: ${command.action}`);
    }
  }

  #machines(): Machines {
    const get = (ref: string) => {
      const machine = this.machines.get(ref);
      if (machine) return machine;
      throw new ShiftvolError('SV_INSTANCE_NOT_FOUND', `Cannot find instance "${ref}"`);
    };
    const bring = (ref: string, what: string, state: PowerState, signal: AbortSignal) => {
      signal.throwIfAborted();
      const machine = get(ref);
      if (machine.state === state) return;
      this.#do(what);
      machine.state = state;
    };
    return {
      create: async spec => {
        const { uuid, vcpus, memoryMb } = spec;
        if (!this.machines.has(uuid)) {
          this.#do('create');
          this.machines.set(uuid, { spec, state: 'stopped', vcpus, memoryMb });
        }
        const idmap = bothKinds(0, 1_000_000, 65_536);
        return {
          key: uuid as InstanceKey,
          runtime: 'fake',
          project: 'default',
          name: spec.name,
          running: false,
          idmap,
        };
      },
      start: async ({ ref }, signal) => bring(ref, 'start', 'running', signal),
      stop: async ({ ref }, { timeoutMs, force }, signal) =>
        bring(ref, `stop ${force ? 'now' : timeoutMs}`, 'stopped', signal),
      freeze: async ({ ref }, signal) => bring(ref, 'freeze', 'paused', signal),
      unfreeze: async ({ ref }, signal) => bring(ref, 'unfreeze', 'running', signal),
      remove: async ({ ref }) => {
        if (!this.machines.has(ref)) return;
        this.#do('remove');
        this.machines.delete(ref);
        this.notes.delete(ref);
      },
      power: async ({ ref }) => this.machines.get(ref)?.state,
      list: async () =>
        [...this.machines].map(
          ([uuid, { spec, state, vcpus, memoryMb }]): Machine => ({
            name: spec.name,
            uuid,
            displayName: spec.displayName,
            state,
            vcpus,
            memoryMb,
          }),
        ),
      console: async ({ ref }) => {
        get(ref);
        return 'booting\n';
      },
      diagnostics: async ({ ref }): Promise<Diagnostics> => ({
        state: get(ref).state,
        cpuNs: 1,
        memoryBytes: 2,
        memoryPeakBytes: 3,
        pids: 4,
        networks: [{ name: 'eth0', mac: '', rxBytes: 5, txBytes: 6, rxPackets: 7, txPackets: 8 }],
      }),
      update: async ({ ref }, { vcpus, memoryMb }) => {
        const machine = get(ref);
        this.#do(`limit ${vcpus} ${memoryMb}`);
        Object.assign(machine, { vcpus, memoryMb });
      },
    };
  }
}

function showSource(source: Source): string {
  if (source.kind === 'template')
    return `template ${source.template}${source.sizeBytes === undefined ? '' : ` of ${source.sizeBytes}`}`;
  return source.kind === 'connection' ? `volume ${source.connection.volumeId}` : source.path;
}

function attached(
  ref: string,
  target: string,
  source: Source,
  readOnly: boolean,
  volumeId: string | undefined,
): Attachment {
  const key = ref as InstanceKey;
  const id = attachmentId(key, target);
  const plan: Plan = {
    id,
    role: target === '/' ? 'root' : 'volume',
    instance: key,
    ref: { ref },
    runtime: 'fake',
    target,
    source,
    readOnly,
    ...(volumeId === undefined ? {} : { volumeId }),
    snapshotKept: false,
    image: { kind: 'file', path: `/images/${id}` },
    idBase: 0,
    idmap: [],
    instanceMap: [],
    mountPath: `/run/sv/${id}`,
    deviceName: `sv-${id}`,
    handoff: target === '/' ? 'none' : 'device',
  };
  const at = '2026-01-01T00:00:00.000Z';
  return {
    plan,
    status: { state: 'attached', device: '/dev/loop0', fsType: 'ext4', attachedAt: at },
    createdAt: at,
    updatedAt: at,
  };
}
