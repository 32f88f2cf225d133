/** A host in memory, behind the ports of the driver methods: what there is, what was done in which order, and what shall fail. */
import { Readable } from 'node:stream';
import type { RpcArgs } from '../../../src/bus/rpc/endpoint.ts';
import type { MachineSpec, PowerState } from '../../../src/container/machines.ts';
import type { Attachment, InstanceKey } from '../../../src/engine/model.ts';
import { Secrets } from '../../../src/engine/secrets.ts';
import { ShiftvolError } from '../../../src/errors.ts';
import { novaEndpoint } from '../../../src/nova/endpoint.ts';
import type { Note, Nova } from '../../../src/nova/ports.ts';
import { execute, swap } from './fake-engine.ts';
import { fakeMachines } from './fake-machines.ts';
import { GIB, never, UUID } from './samples.ts';

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
  departures: Nova['departures'];
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
  note(what: string): void {
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
        execute: async command => execute(this, command),
        swapVolume: async request => swap(this, request),
        noteMove: async ({ from }) => this.note(`moved from ${from}`),
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
      machines: fakeMachines(this),
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
          this.note(`import ${imageId}`);
          await this.importing;
          this.templates.set(name, GIB);
        },
        upload: async (imageId, { body, sizeBytes }) => {
          this.note(`upload ${imageId} ${sizeBytes}`);
          body.destroy();
        },
      },
      fileSystems: {
        growRoot: async (_, sizeBytes) => this.note(`grow root ${sizeBytes}`),
        extendVolume: async (_, volumeId, sizeBytes) => {
          if (![...this.attachments.values()].some(a => a.plan.volumeId === volumeId))
            throw new ShiftvolError('SV_ATTACHMENT_NOT_FOUND', `Cannot find an attachment for "${volumeId}"`);
          this.note(`extend ${volumeId} ${sizeBytes}`);
        },
        freeze: async () => this.note('freeze file systems'),
        thaw: async () => this.note('thaw file systems'),
        openRootImage: async () => {
          this.note('open root image');
          return {
            body: Readable.from([Buffer.from('root')]),
            sizeBytes: 4,
            diskFormat: 'qcow2',
            [Symbol.asyncDispose]: async () => this.note('close root image'),
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
          this.note(`ask cinder ${id}`);
          return this.volumeMetadata.get(id) ?? {};
        },
      },
      ...(this.transfer && { transfer: this.transfer }),
      ...(this.departures && { departures: this.departures }),
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
}
