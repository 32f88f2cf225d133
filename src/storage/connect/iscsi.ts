/** iSCSI through open-iscsi; several paths through dm-multipath. */
import type { Connection } from '../../engine/model.ts';
import type { ImageRef } from '../../engine/ports.ts';
import { KeyedQueue } from '../../engine/queue.ts';
import type { Secrets } from '../../engine/secrets.ts';
import { explain } from '../../errors.ts';
import { runTool } from '../tool.ts';
import { type ConnectEnv, type Connector, cannotConnect, listFact } from './connector.ts';
import { type Chap, login, logout } from './iscsi-node.ts';
import { flushMultipath, joinMultipath, multipathOf, resizeMultipath } from './multipath.ts';
import { isReady } from './ready.ts';
import {
  deviceOfLun,
  devicesOf,
  findSession,
  identity,
  isRunning,
  removeDevice,
  rescanDevice,
  type ScsiDevice,
  type Session,
  scan,
} from './scsi.ts';
import { deviceSize } from './sysfs.ts';
import { isUnused, requireUnused } from './unused.ts';
import { waitFor, waitUntil } from './wait.ts';

const DEVICE_MS = 30_000;
const REMOVED_MS = 5000;
/** For the other paths, once there is one. */
const OTHERS_MS = 10_000;

type Path = { readonly address: string; readonly iqn: string; readonly lun: string };

export function iscsiConnector(env: ConnectEnv): Connector {
  /** Logging in, looking what is there and logging out are several things; volumes of one target share its session. */
  const queue = new KeyedQueue(Number.POSITIVE_INFINITY);
  const { sysRoot } = env;

  const here = (connection: Connection): readonly { path: Path; session: Session; device: ScsiDevice }[] =>
    pathsOf(connection).flatMap(path => {
      const session = findSession(sysRoot, path);
      const device = session && deviceOfLun(session, path.lun);
      return session && device ? [{ path, session, device }] : [];
    });

  const whole = (devices: readonly ScsiDevice[]): string | undefined => {
    const [first] = devices;
    return first && (multipathOf(sysRoot, first)?.device ?? first.path);
  };

  const connectPath = async (connection: Connection, path: Path, chap: Chap | undefined, signal?: AbortSignal) => {
    await login(path, chap, signal);
    const what = `a device of volume "${connection.name}" at ${path.address}, LUN ${path.lun}`;
    const waiting = { timeoutMs: DEVICE_MS, signal, what };
    const session = await waitFor(() => findSession(sysRoot, path), waiting);
    await dropStale(sysRoot, connection, session, path);
    await scan(sysRoot, session, path.lun);
    return await waitFor(async () => {
      const device = deviceOfLun(session, path.lun);
      return device && isRunning(device) && (await isReady(sysRoot, device.path)) ? device : undefined;
    }, waiting);
  };

  return {
    async connect(connection, { secrets, signal }) {
      const paths = pathsOf(connection);
      const chap = chapOf(connection, secrets);
      const connectOne = (path: Path, until?: AbortSignal) =>
        queue.run(sessionOf(path), () => connectPath(connection, path, chap, until));
      const { found, failures } = await (env.multipath ? everyOne : firstOne)(paths, connectOne, signal);
      if (found.length === 0)
        throw cannotConnect(
          connection,
          `none of its ${paths.length} paths works: ${explain(failures[0])}`,
          failures[0],
        );
      requireOneUnit(sysRoot, connection, found);
      if (env.multipath) await joinMultipath(sysRoot, connection, found, signal);
      return { kind: 'device', path: whole(found) ?? '' };
    },

    async find(connection): Promise<ImageRef | undefined> {
      const path = whole(here(connection).map(h => h.device));
      return path === undefined ? undefined : { kind: 'device', path };
    },

    async disconnect(connection, signal) {
      const devices = here(connection).map(h => h.device);
      const device = whole(devices);
      if (device !== undefined) await requireUnused(connection, device);
      await flushMultipath(sysRoot, connection, devices, signal);
      for (const path of pathsOf(connection))
        await queue.run(sessionOf(path), async () => {
          const session = findSession(sysRoot, path);
          const mine = session && deviceOfLun(session, path.lun);
          if (mine) {
            await runTool('blockdev', ['--flushbufs', mine.path], { signal, accept: [0, 1] });
            await removeDevice(mine);
            // A session that still shows it would be kept for it.
            await waitUntil(() => deviceOfLun(session, path.lun) === undefined, REMOVED_MS, signal);
          }
          if (session === undefined || devicesOf(session).length === 0) await logout(path, signal);
        });
    },

    async rescan(connection, signal) {
      const devices = here(connection).map(h => h.device);
      for (const device of devices) await rescanDevice(device);
      requireOneUnit(sysRoot, connection, devices);
      await resizeMultipath(sysRoot, devices, signal);
    },
  };
}

/** Volumes of one target share its session at each portal. */
const sessionOf = ({ address, iqn }: Path): string => `${address} ${iqn}`;

type ConnectPath = (path: Path, signal?: AbortSignal) => Promise<ScsiDevice>;
type Tried = { readonly found: readonly ScsiDevice[]; readonly failures: readonly unknown[] };

async function firstOne(paths: readonly Path[], connect: ConnectPath, signal?: AbortSignal): Promise<Tried> {
  const failures: unknown[] = [];
  for (const path of paths) {
    try {
      return { found: [await connect(path, signal)], failures };
    } catch (error) {
      signal?.throwIfAborted();
      failures.push(error);
    }
  }
  return { found: [], failures };
}

/** At once: a portal that is dead keeps the others waiting for a moment only, and whoever attaches no longer than that. */
async function everyOne(paths: readonly Path[], connect: ConnectPath, signal?: AbortSignal): Promise<Tried> {
  const late = new AbortController();
  const until = AbortSignal.any([late.signal, ...(signal ? [signal] : [])]);
  let timer: NodeJS.Timeout | undefined;
  const tries = paths.map(async path => {
    const device = await connect(path, until);
    timer ??= setTimeout(() => late.abort(), OTHERS_MS);
    return device;
  });
  const ended = await Promise.allSettled(tries);
  clearTimeout(timer);
  signal?.throwIfAborted();
  return {
    found: ended.flatMap(each => (each.status === 'fulfilled' ? [each.value] : [])),
    failures: ended.flatMap(each => (each.status === 'rejected' ? [each.reason] : [])),
  };
}

function pathsOf(connection: Connection): readonly Path[] {
  return listFact(connection, 'paths').map(text => {
    const [address = '', iqn = '', lun = ''] = text.split(' ');
    return { address, iqn, lun };
  });
}

/** After a reboot no password is at hand: the record has it. */
function chapOf({ facts }: Connection, secrets: Secrets): Chap | undefined {
  const user = facts['chapUser'];
  const password = secrets.get('chapPassword');
  return typeof user === 'string' && password !== undefined ? { user, password } : undefined;
}

/**
 * What had this LUN before may be another volume by now, and the kernel would go on with what it knew of the old one. A device that
 * nobody uses is made anew; one that is in use is asked again what it is. @throws SV_CONNECTION: not what it is used as any more
 */
async function dropStale(sysRoot: string, connection: Connection, session: Session, { lun }: Path): Promise<void> {
  const old = deviceOfLun(session, lun);
  if (old === undefined) return;
  const multipath = multipathOf(sysRoot, old);
  if (multipath === undefined && (await isUnused(old.path))) return await removeDevice(old);
  const before = identity(old);
  await rescanDevice(old);
  const now = identity(old);
  if (before === now) return;
  throw cannotConnect(
    connection,
    `LUN ${lun} is ${now ?? 'a unit without a name'} by now, and ${old.path} is in use as ${before ?? 'one without a name'}`,
    undefined,
    'detach what uses the device: its volume is not there any more',
  );
}

/** Paths that lead to different units would destroy each other's data. @throws SV_CONNECTION */
function requireOneUnit(sysRoot: string, connection: Connection, devices: readonly ScsiDevice[]): void {
  const names = new Set(devices.map(device => identity(device) ?? `no name (${device.path})`));
  const sizes = new Set(devices.map(device => deviceSize(sysRoot, device.path)));
  if (devices.length < 2 || (names.size === 1 && sizes.size === 1)) return;
  throw cannotConnect(
    connection,
    `its paths lead to different units: ${devices.map(d => `${d.path} ${identity(d) ?? 'without a name'}`).join(', ')}`,
  );
}
