/**
 * What was written to a container's console. LXC keeps it in a ring; LXD's answer is what came since the last question, and the asking
 * appends that to a file, which has the rest. (LXD 5.0: where nothing came the answer is a failure, "open : no such file or directory".)
 * LXC begins the file anew when the container stops.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { isNodeErrno } from '../../kernel/errno.ts';
import type { LxdClient } from './client.ts';
import { LxdError } from './lxd-error.ts';
import { resource } from './machine-state.ts';
import type { LxdInstance } from './wire.ts';

/** The last `maxBytes`. `root`: of LXD's mount namespace, as seen from here. */
export async function readConsole(
  client: LxdClient,
  root: string,
  { project, name }: LxdInstance,
  maxBytes: number,
  signal: AbortSignal,
): Promise<string> {
  const fresh = await textIfAny(client, resource(project, name, 'console'), signal);
  const config = await textIfAny(client, resource(project, name, 'logs/lxc.conf'), signal);
  const path = /^lxc\.console\.logfile = (\/.*)$/m.exec(config)?.[1];
  const kept = path === undefined ? '' : await tailOf(join(root, path), maxBytes);
  // Where more came than the file takes at once, the answer has all of it.
  const all = kept.endsWith(fresh) ? kept : fresh.endsWith(kept) ? fresh : kept + fresh;
  return Buffer.from(all).subarray(-maxBytes).toString('utf8');
}

async function textIfAny(client: LxdClient, path: string, signal: AbortSignal): Promise<string> {
  try {
    return await client.text(path, signal);
  } catch (error) {
    if (error instanceof LxdError && (error.status === 404 || error.status === 500)) return '';
    throw error;
  }
}

async function tailOf(path: string, maxBytes: number): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    const length = Math.min(size, maxBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.toString('utf8', 0, bytesRead);
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT')) return '';
    throw error;
  }
}
