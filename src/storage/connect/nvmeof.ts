/** NVMe over fabrics through nvme-cli; several paths through the kernel's own multipath. */
import { join } from 'node:path';
import type { Connection } from '../../engine/model.ts';
import type { ImageRef } from '../../engine/ports.ts';
import { KeyedQueue } from '../../engine/queue.ts';
import { explain } from '../../errors.ts';
import { runTool } from '../tool.ts';
import { type ConnectEnv, type Connector, cannotConnect, listFact, textFact } from './connector.ts';
import { isReady } from './ready.ts';
import { attribute, deviceSize, entries, writeAttribute } from './sysfs.ts';
import { isUnused, requireUnused } from './unused.ts';
import { waitFor, waitUntil } from './wait.ts';

const DEVICE_MS = 30_000;
const CONNECT_MS = 60_000;
/** The controller looks for new sizes in its own time. */
const GROW_MS = 3000;

type Portal = { readonly transport: string; readonly address: string; readonly port: string };

export function nvmeofConnector(env: ConnectEnv): Connector {
  const { sysRoot } = env;
  const queue = new KeyedQueue(Number.POSITIVE_INFINITY);
  /** Volumes between their connection and their use, by subsystem: one subsystem may have several. */
  const users = new Map<string, Set<string>>();

  const namespaces = (nqn: string): readonly string[] =>
    [...subsystemsOf(sysRoot, nqn), ...controllersOf(sysRoot, nqn)]
      .flatMap(dir => entries(dir).map(name => ({ dir, name })))
      .filter(({ name }) => /^nvme\d+n\d+$/.test(name))
      .map(({ dir, name }) => join(dir, name));

  const find = (connection: Connection): string | undefined => {
    const dir = namespaces(textFact(connection, 'nqn')).find(namespace => isNamespace(namespace, connection));
    return dir && `/dev/${dir.split('/').at(-1)}`;
  };

  const connectPortal = async (connection: Connection, portal: Portal, signal: AbortSignal | undefined) => {
    const { transport, address, port } = portal;
    const nqn = textFact(connection, 'nqn');
    if (controllersOf(sysRoot, nqn).some(dir => isAt(dir, portal))) return;
    await runTool('modprobe', [`nvme-${transport}`], { signal });
    const { hostNqn } = connection.facts;
    const host = typeof hostNqn === 'string' ? [`--hostnqn=${hostNqn}`] : [];
    const args = [`--transport=${transport}`, `--traddr=${address}`, `--trsvcid=${port}`, `--nqn=${nqn}`, ...host];
    const deadline = AbortSignal.any([AbortSignal.timeout(CONNECT_MS), ...(signal ? [signal] : [])]);
    await runTool('nvme', ['connect', ...args], { signal: deadline });
  };

  const askAgain = async (nqn: string): Promise<void> => {
    for (const dir of controllersOf(sysRoot, nqn)) await writeAttribute('1', dir, 'rescan_controller');
  };

  return {
    async connect(connection, { signal }) {
      const nqn = textFact(connection, 'nqn');
      return await queue.run(nqn, async () => {
        users.set(nqn, (users.get(nqn) ?? new Set()).add(connection.name));
        const failures: unknown[] = [];
        for (const portal of portalsOf(connection)) {
          try {
            await connectPortal(connection, portal, signal);
            if (!env.multipath) break;
          } catch (error) {
            signal?.throwIfAborted();
            failures.push(error);
          }
        }
        if (controllersOf(sysRoot, nqn).length === 0)
          throw cannotConnect(connection, `none of its portals works: ${explain(failures[0])}`, failures[0]);
        if (find(connection) === undefined) await askAgain(nqn);
        const what = `a namespace of volume "${connection.name}"`;
        const path = await waitFor(
          async () => {
            const device = find(connection);
            return device !== undefined && (await isReady(sysRoot, device)) ? device : undefined;
          },
          { timeoutMs: DEVICE_MS, signal, what },
        );
        return { kind: 'device', path };
      });
    },

    async find(connection): Promise<ImageRef | undefined> {
      const path = find(connection);
      return path === undefined ? undefined : { kind: 'device', path };
    },

    async disconnect(connection, signal) {
      const nqn = textFact(connection, 'nqn');
      await queue.run(nqn, async () => {
        const device = find(connection);
        if (device !== undefined) await requireUnused(connection, device);
        const others = users.get(nqn);
        others?.delete(connection.name);
        if (others !== undefined && others.size > 0) return;
        users.delete(nqn);
        if (controllersOf(sysRoot, nqn).length === 0) return;
        // One namespace cannot go alone. Another one of this subsystem that is in use keeps the connection.
        for (const namespace of namespaces(nqn)) if (!(await isUnused(`/dev/${namespace.split('/').at(-1)}`))) return;
        await runTool('nvme', ['disconnect', `--nqn=${nqn}`], { signal });
      });
    },

    async rescan(connection, signal) {
      const device = find(connection);
      if (device === undefined) return;
      const before = deviceSize(sysRoot, device);
      await askAgain(textFact(connection, 'nqn'));
      await waitUntil(() => deviceSize(sysRoot, device) !== before, GROW_MS, signal);
    },
  };
}

function subsystemsOf(sysRoot: string, nqn: string): readonly string[] {
  const classDir = join(sysRoot, 'class/nvme-subsystem');
  return entries(classDir)
    .filter(name => attribute(classDir, name, 'subsysnqn') === nqn)
    .map(name => join(classDir, name))
    .filter(dir => entries(dir).some(name => /^nvme\d+$/.test(name) && isRemote(join(dir, name))));
}

function controllersOf(sysRoot: string, nqn: string): readonly string[] {
  const classDir = join(sysRoot, 'class/nvme');
  return entries(classDir)
    .filter(name => attribute(classDir, name, 'subsysnqn') === nqn)
    .map(name => join(classDir, name))
    .filter(isRemote);
}

/** A disk in this host is a subsystem with a name, too, and none that a service could have meant. */
function isRemote(controller: string): boolean {
  return ['tcp', 'rdma'].includes(attribute(controller, 'transport') ?? '');
}

/** `traddr=192.0.2.3,trsvcid=4420,src_addr=...` */
function isAt(dir: string, { transport, address, port }: Portal): boolean {
  const parts = (attribute(dir, 'address') ?? '').split(',');
  return (
    attribute(dir, 'transport') === transport &&
    parts.includes(`traddr=${address}`) &&
    parts.includes(`trsvcid=${port}`)
  );
}

function portalsOf(connection: Connection): readonly Portal[] {
  return listFact(connection, 'portals').map(text => {
    const [transport = '', address = '', port = ''] = text.split(' ');
    return { transport, address, port };
  });
}

/** Everything that the service says of the namespace must be so: a number alone may be another volume's by now. */
function isNamespace(dir: string, { facts }: Connection): boolean {
  const plain = (name: string) => attribute(dir, name)?.replaceAll('-', '').toLowerCase();
  const { uuid, nguid, namespace } = facts;
  if (typeof uuid === 'string' && plain('uuid') !== uuid && plain('nguid') !== uuid) return false;
  if (typeof nguid === 'string' && plain('nguid') !== nguid) return false;
  if (typeof namespace === 'number' && attribute(dir, 'nsid') !== String(namespace)) return false;
  return uuid !== undefined || nguid !== undefined || namespace !== undefined;
}
