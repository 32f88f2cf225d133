/** The parts that Nova's driver methods work with on this host. What is seldom needed is loaded when it is. */
import { readFile, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { RpcEndpoint } from '../bus/rpc/endpoint.ts';
import type { Config } from '../config/schema.ts';
import { LxdMachines } from '../container/lxd/machines.ts';
import { LxdNotes } from '../container/lxd/notes.ts';
import type { InstanceKey, InstanceRef } from '../engine/model.ts';
import { rootsDir } from '../engine/plan.ts';
import { isError } from '../errors.ts';
import type { Log } from '../log/log.ts';
import { novaEndpoint } from '../nova/endpoint.ts';
import type { FileSystems, HostFacts, Images, Note, Notes, VolumeLabels } from '../nova/ports.ts';
import { requestOf } from '../nova/requests.ts';
import { readResources } from '../nova/resources.ts';
import { showTemplate } from '../storage/templates.ts';
import type { Host } from './assemble.ts';
import { connectorsOf } from './connectors.ts';
import type { LazyCloud } from './lazy-cloud.ts';
import type { Transfers } from './transfers.ts';

/** Asks nobody anything yet. */
export function novaMethods(config: Config, host: Host, transfers: Transfers, log: Log): RpcEndpoint {
  const { cloud } = host;
  const { project } = config.runtimes.lxd;
  const { liveMigration, defaultTarget, stopTimeoutMs } = config.nova;
  return novaEndpoint({
    host: config.host,
    version: config.version,
    config: { liveMigration, defaultTarget, stopTimeoutMs },
    engine: host.engine,
    machines: new LxdMachines(host.lxd, { project, rootsDir: rootsDir(config.runDir) }),
    connectors: connectorsOf(config),
    images: glanceImages(config, cloud),
    fileSystems: fileSystems(config, host),
    notes: notes(new LxdNotes(host.lxd, project)),
    labels: volumeLabels(cloud),
    transfer: transfers.transfer,
    departures: transfers.departures,
    facts: hostFacts(config, host),
    log,
  });
}

function glanceImages({ poolDir }: Config, cloud: LazyCloud): Images {
  const glance = async () => new (await import('../openstack/glance.ts')).Glance(await cloud.session());
  return {
    find: name => {
      try {
        return showTemplate({ poolDir }, name);
      } catch (error) {
        if (isError(error, 'SV_TEMPLATE_NOT_FOUND')) return undefined;
        throw error;
      }
    },
    import: async (imageId, name, signal) => {
      const [service, { imageSource }, { isArchive, HEAD_BYTES }, { importTemplate }] = await Promise.all([
        glance(),
        import('../openstack/image-source.ts'),
        import('../storage/import/request.ts'),
        import('../storage/import/import.ts'),
      ]);
      const image = await service.image(imageId, signal);
      // Glance has no word for an archive: they are uploaded as raw.
      const archive =
        image.diskFormat === 'raw' && isArchive(await head(await service.download(image, signal), HEAD_BYTES));
      const remote = imageSource(service, image, archive ? 'tar' : 'auto');
      await importTemplate({ poolDir }, { name, from: `glance:${imageId}` }, { signal, remote });
    },
    upload: async (imageId, { body, sizeBytes, diskFormat }, signal) => {
      const service = await glance();
      await service.describe(imageId, { diskFormat, containerFormat: 'bare' }, signal);
      await service.uploadInto(imageId, body, signal, { sizeBytes });
    },
  };
}

/** The first bytes; the rest is not fetched. */
async function head(stream: Readable, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let have = 0;
  for await (const chunk of stream) {
    chunks.push(chunk);
    have += chunk.length;
    if (have >= bytes) break;
  }
  return Buffer.concat(chunks).subarray(0, bytes);
}

function fileSystems({ nova }: Config, { engine }: Host): FileSystems {
  const freezing = { deadlineMs: nova.freezeTimeoutMs };
  return {
    growRoot: async (instance, sizeBytes, call) => {
      if ((await rootSize(engine, instance)) >= sizeBytes) return;
      const command = { action: 'extend', instance, target: '/', sizeBytes } as const;
      await engine.execute({ ...command, ...requestOf(call, command) }, call.signal);
    },
    extendVolume: async (instance, volumeId, sizeBytes, call) => {
      const command = { action: 'extend', instance, volumeId, sizeBytes } as const;
      await engine.execute({ ...command, ...requestOf(call, command) }, call.signal);
    },
    freeze: async (instance, signal) => {
      await engine.standstills.freeze(instance, { ...freezing, signal });
    },
    thaw: async (instance, signal) => {
      await engine.standstills.thaw(instance, signal);
    },
    // As qcow2: the holes of a root file system, most of it, are neither sent nor stored.
    openRootImage: async (instance, signal) => {
      const { qcow2Stream } = await import('../storage/qcow2-writer.ts');
      await using stack = new AsyncDisposableStack();
      const { path, stream } = stack.use(await engine.snapshots.exportImage({ instance, target: '/' }, { signal }));
      stream.destroy();
      const { body, sizeBytes } = qcow2Stream(path, signal);
      stack.defer(() => void body.destroy());
      const kept = stack.move();
      return { body, sizeBytes, diskFormat: 'qcow2', [Symbol.asyncDispose]: () => kept.disposeAsync() };
    },
  };
}

/** Of the snapshot's image; 0 where there is none. */
async function rootSize(engine: Host['engine'], { ref }: InstanceRef): Promise<number> {
  const root = engine.list(ref as InstanceKey).find(({ plan }) => plan.role === 'root');
  return root?.plan.source.kind === 'template' ? (await stat(root.plan.image.path)).size : 0;
}

/** What the user wrote on a volume; nothing where no cloud is configured. */
function volumeLabels(cloud: LazyCloud): VolumeLabels {
  return {
    metadata: async (volumeId, signal) => {
      if (!(await cloud.isConfigured())) return {};
      const { metadata } = await (await cloud.cinder()).volume(volumeId, signal);
      return Object.fromEntries(metadata);
    },
  };
}

function hostFacts({ poolDir }: Config, { lxd }: Host): HostFacts {
  return {
    resources: () => readResources({ proc: '/proc', cgroup: '/sys/fs/cgroup', poolDir }),
    runtime: signal => lxd.server(signal),
    uptimeS: async () => Number.parseFloat(await readFile('/proc/uptime', 'utf8')),
  };
}

function notes(kept: LxdNotes): Notes {
  return {
    get: async (instance, signal) => {
      const text = await kept.get(instance, signal);
      return text === undefined ? undefined : parseNote(text);
    },
    set: async (instance, note, signal) => {
      await kept.set(instance, note.leaving === undefined ? undefined : JSON.stringify(note), signal);
    },
  };
}

/** An administrator may have edited it: what is not ours says nothing. */
function parseNote(text: string): Note | undefined {
  try {
    const note: unknown = JSON.parse(text);
    const leaving = typeof note === 'object' && note !== null && 'leaving' in note ? note.leaving : undefined;
    return typeof leaving === 'string' ? { leaving } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
