/** RBD: by the kernel's own client, or where that lacks a feature of the image by rbd-nbd. */
import { hash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Connection } from '../../engine/model.ts';
import type { ImageRef } from '../../engine/ports.ts';
import type { Secrets } from '../../engine/secrets.ts';
import { explain, isError, ShiftvolError } from '../../errors.ts';
import { isNodeErrno } from '../../kernel/errno.ts';
import { runTool } from '../tool.ts';
import { type ConnectEnv, type Connector, cannotConnect, listFact, stillUsed, textFact } from './connector.ts';
import { argumentsOf } from './qemu-nbd.ts';
import { isReady } from './ready.ts';
import { attribute, entries, hasUdev, writeAttribute } from './sysfs.ts';
import { requireUnused } from './unused.ts';
import { waitFor, waitUntil } from './wait.ts';

const MAP_MS = 120_000;
const DEVICE_MS = 15_000;
const UNWATCHED_MS = 5000;

export function rbdConnector(env: ConnectEnv): Connector {
  const { sysRoot } = env;

  const find = (connection: Connection): Mapped | undefined =>
    findKernelDevice(sysRoot, connection) ?? findNbdDevice(env, connection);

  const map = async (connection: Connection, secrets: Secrets, signal: AbortSignal | undefined): Promise<void> => {
    const deadline = AbortSignal.any([AbortSignal.timeout(MAP_MS), ...(signal ? [signal] : [])]);
    await using keyring = await keyringFile(env, connection, secrets);
    const args = clusterArguments(connection, keyring.path);
    if (!connection.readOnly) await requireUnwatched(connection, args, deadline);
    try {
      await runTool('modprobe', ['rbd'], { signal });
      // Without udevd nobody would tell rbd that the device is there.
      const kernel = [...(hasUdev() ? [] : ['--options', 'noudev']), ...(connection.readOnly ? ['--read-only'] : [])];
      await runTool('rbd', ['map', ...args, ...kernel, textFact(connection, 'image')], { signal: deadline });
    } catch (error) {
      signal?.throwIfAborted();
      if (!isError(error, 'SV_TOOL')) throw error;
      await runTool('modprobe', ['nbd', 'nbds_max=64', 'max_part=0'], { signal });
      const nbd = connection.readOnly ? ['--read-only'] : [];
      await runTool('rbd-nbd', ['map', ...args, ...nbd, textFact(connection, 'image')], { signal: deadline }).catch(
        (other: unknown) => {
          const second = isError(other, 'SV_HOST') ? 'rbd-nbd is not installed' : explain(other);
          throw cannotConnect(connection, `the kernel does not take it, and ${second}`, error);
        },
      );
    }
  };

  return {
    async connect(connection, { secrets, signal }) {
      if (find(connection) === undefined) await map(connection, secrets, signal);
      const what = `a device of volume "${connection.name}"`;
      const { path } = await waitFor(
        async () => {
          const mapped = find(connection);
          return mapped && (await isReady(sysRoot, mapped.path)) ? mapped : undefined;
        },
        { timeoutMs: DEVICE_MS, signal, what },
      );
      return { kind: 'device', path };
    },

    async find(connection): Promise<ImageRef | undefined> {
      const mapped = find(connection);
      return mapped && { kind: 'device', path: mapped.path };
    },

    async disconnect(connection, signal) {
      await removeKeyring(env, connection);
      const mapped = find(connection);
      if (mapped === undefined) return;
      await requireUnused(connection, mapped.path);
      if (mapped.by === 'nbd') await runTool('rbd-nbd', ['unmap', mapped.path], { signal });
      else await unmapKernelDevice(sysRoot, connection, mapped);
      const gone = await waitUntil(() => find(connection) === undefined, DEVICE_MS, signal);
      if (!gone) throw stillUsed(connection, `${mapped.path} does not go`);
    },

    /** Both clients watch the image's header, and hear of a new size by themselves; the kernel's one can be asked at once. */
    async rescan(connection) {
      const mapped = find(connection);
      if (mapped?.by === 'kernel') await writeAttribute('1', sysRoot, 'bus/rbd/devices', mapped.id, 'refresh');
    },
  };
}

/**
 * Whoever has the image open for writing, a krbd of another host or a librbd, watches its header. A file system that two hosts have
 * mounted is destroyed; what Cinder does to an image itself is over in a moment. @throws SV_VOLUME_IN_USE
 */
async function requireUnwatched(connection: Connection, args: readonly string[], signal: AbortSignal): Promise<void> {
  let watchers: readonly string[] = [];
  const isFree = async (): Promise<boolean> => {
    watchers = await watchersOf(connection, args, signal);
    return watchers.length === 0;
  };
  if (await waitUntil(isFree, UNWATCHED_MS, signal)) return;
  throw new ShiftvolError(
    'SV_VOLUME_IN_USE',
    `Cannot connect volume "${connection.name}": ${watchers.join(', ')} ${watchers.length === 1 ? 'has' : 'have'} it open`,
    { remedy: 'detach it there; what a host that died had open is free after half a minute' },
  );
}

const statusShape = z.object({
  // Before Ceph 13 an object with one key for all.
  watchers: z.union([z.array(z.unknown()), z.record(z.string(), z.unknown())]).transform(Object.values),
});
const watcherShape = z.object({ address: z.string() });

async function watchersOf(
  connection: Connection,
  args: readonly string[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const image = textFact(connection, 'image');
  // Whatever is wrong, an image that is not there or a key, mapping it tells it better.
  const { status, stdout } = await runTool('rbd', ['status', ...args, '--format=json', image], {
    signal,
    accept: [...Array(256).keys()],
  });
  if (status !== 0) return [];
  return statusShape
    .parse(JSON.parse(stdout))
    .watchers.map(each => watcherShape.safeParse(each).data?.address ?? 'somebody');
}

type Mapped = { readonly by: 'kernel' | 'nbd'; readonly id: string; readonly path: string };

/** The image itself, not a snapshot of it, of a cluster that has one of our monitors. */
function findKernelDevice(sysRoot: string, connection: Connection): Mapped | undefined {
  const devices = join(sysRoot, 'bus/rbd/devices');
  const [pool, namespace, name] = imageParts(connection);
  const id = entries(devices).find(device => {
    const is = (key: string, value: string) => (attribute(devices, device, key) ?? '') === value;
    return (
      is('pool', pool) &&
      is('pool_ns', namespace) &&
      is('name', name) &&
      is('current_snap', '-') &&
      isCluster(attribute(devices, device, 'config_info') ?? '', connection)
    );
  });
  return id === undefined ? undefined : { by: 'kernel', id, path: `/dev/rbd${id}` };
}

/** `MONITORS OPTIONS POOL IMAGE SNAP`: one host in common is one cluster. Where Cinder names no monitors there is one cluster. */
function isCluster(configInfo: string, connection: Connection): boolean {
  const hosts = listFact(connection, 'monitors').map(hostOf);
  const used = (configInfo.split(' ')[0] ?? '').split(',').map(hostOf);
  return hosts.length === 0 || hosts.some(host => used.includes(host)) || hosts.some(host => /[a-z]/i.test(host));
}

const hostOf = (monitor: string): string => monitor.replace(/:\d+(?:\/\d+)?$/, '').replace(/^\[|\]$/g, '');

function findNbdDevice({ sysRoot, procRoot }: ConnectEnv, connection: Connection): Mapped | undefined {
  const image = textFact(connection, 'image');
  const cluster = `--cluster=${textFact(connection, 'cluster')}`;
  const id = entries(sysRoot, 'block').find(name => {
    const pid = /^nbd\d+$/.test(name) ? attribute(sysRoot, 'block', name, 'pid') : undefined;
    const args = pid === undefined ? [] : argumentsOf(procRoot, pid);
    return args[0]?.endsWith('rbd-nbd') && args[1] === 'map' && args.includes(cluster) && args.at(-1) === image;
  });
  return id === undefined ? undefined : { by: 'nbd', id, path: `/dev/${id}` };
}

function imageParts(connection: Connection): readonly [pool: string, namespace: string, name: string] {
  const [pool = '', second = '', third] = textFact(connection, 'image').split('/');
  return third === undefined ? [pool, '', second] : [pool, second, third];
}

function clusterArguments(connection: Connection, keyring: string | undefined): readonly string[] {
  const { user } = connection.facts;
  const cluster = textFact(connection, 'cluster');
  const monitors = listFact(connection, 'monitors');
  // What this host is configured with goes before what Cinder's host knows.
  const configured = existsSync(`/etc/ceph/${cluster}.conf`) || monitors.length === 0;
  return [
    `--cluster=${cluster}`,
    ...(typeof user === 'string' ? [`--id=${user}`] : []),
    ...(keyring === undefined ? [] : [`--keyring=${keyring}`]),
    ...(configured ? [] : [`--mon-host=${monitors.join(',')}`]),
  ];
}

async function unmapKernelDevice(sysRoot: string, connection: Connection, { id, path }: Mapped): Promise<void> {
  const bus = join(sysRoot, 'bus/rbd');
  const file = existsSync(join(bus, 'remove_single_major')) ? 'remove_single_major' : 'remove';
  try {
    await writeAttribute(id, bus, file);
  } catch (error) {
    if (isNodeErrno(error, 'EBUSY')) throw stillUsed(connection, `${path} is in use`, error);
    if (!isNodeErrno(error, 'ENOENT')) throw error;
  }
}

/** A keyring that Cinder gave lies in a file for as long as the mapping takes: the kernel then has the key. */
async function keyringFile(
  env: ConnectEnv,
  connection: Connection,
  secrets: Secrets,
): Promise<AsyncDisposable & { readonly path?: string }> {
  const keyring = secrets.get('keyring');
  if (keyring === undefined) return { async [Symbol.asyncDispose]() {} };
  const path = keyringPath(env, connection);
  await mkdir(join(env.runDir, 'keyrings'), { recursive: true, mode: 0o700 });
  await rm(path, { force: true });
  await writeFile(path, keyring, { mode: 0o600, flag: 'wx' });
  return { path, [Symbol.asyncDispose]: () => removeKeyring(env, connection) };
}

async function removeKeyring(env: ConnectEnv, connection: Connection): Promise<void> {
  await rm(keyringPath(env, connection), { force: true });
}

function keyringPath({ runDir }: ConnectEnv, { name }: Connection): string {
  return join(runDir, 'keyrings', hash('sha256', name));
}
