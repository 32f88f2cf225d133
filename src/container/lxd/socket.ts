import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isNodeErrno } from '../../kernel/errno.ts';
import { LxdError } from './lxd-error.ts';

/** Where the packages of LXD and Incus put their sockets: snap, Debian, and Incus' two. */
const USUAL = [
  '/var/snap/lxd/common/lxd/unix.socket',
  '/var/lib/lxd/unix.socket',
  '/var/lib/incus/unix.socket',
  '/run/incus/unix.socket',
] as const;

export type SocketOptions = {
  /** From the configuration; then nothing else is tried. */
  readonly configured?: string | undefined;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Put before the usual places, for tests. */
  readonly root?: string;
};

/**
 * The unix socket of LXD or Incus: the configured one, $LXD_SOCKET's or $INCUS_SOCKET's, the one below $LXD_DIR or $INCUS_DIR, else the
 * first of the usual places where there is one. A place that was named is not replaced by another: that would be another server.
 * @throws SV_RUNTIME naming what was tried
 */
export async function findSocket({ configured, env = process.env, root = '' }: SocketOptions = {}): Promise<string> {
  const named =
    configured ||
    env['LXD_SOCKET'] ||
    env['INCUS_SOCKET'] ||
    (env['LXD_DIR'] && join(env['LXD_DIR'], 'unix.socket')) ||
    (env['INCUS_DIR'] && join(env['INCUS_DIR'], 'unix.socket'));
  const places = named ? [named] : USUAL.map(path => `${root}${path}`);
  for (const path of places) if (await isSocket(path)) return path;
  throw new LxdError(0, `Cannot find LXD or Incus: there is no socket at ${places.join(', ')}`, {
    remedy: 'start LXD or Incus, or name its socket in plugin.yaml (runtimes.lxd.socket) or $SHIFTVOL_LXD_SOCKET',
  });
}

async function isSocket(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isSocket();
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return false;
    throw error;
  }
}
