/** connection_info of the types that are a name and little more. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { parse, type Read, refuse } from './info-shape.ts';

/** No way up and out: what joins it stays below. */
const fileName = z
  .string()
  .min(1)
  .max(255)
  .regex(/^(?!\.{1,2}$)[^/\0]+$/, 'a file name without "/" is accepted');
const absolute = z
  .string()
  .max(4000)
  .regex(/^\/(?!.*(?:\/\/|\/\.{1,2}(?:\/|$)|\0))/, 'an absolute path without "//", "." and ".." is accepted');

const local = z.object({ device_path: absolute });

export function readLocal(data: unknown): Read {
  const { device_path: path } = parse(local, data);
  const kind = path.startsWith('/dev/') ? 'device' : 'file';
  return { type: 'local', name: path, kind, facts: { path } };
}

const nfs = z.object({
  export: z
    .string()
    .max(2000)
    .regex(/^[^\s/-][^\s/]*:\/\S*$/, 'HOST:/PATH is accepted'),
  name: fileName,
  format: z.enum(['raw', 'qcow2']).nullish(),
  options: z.string().max(1000).nullish(),
  mount_point_base: absolute.nullish(),
});

/** Where Cinder and Nova mount shares when nobody said otherwise. */
const DEFAULT_BASE = '/var/lib/nova/mnt';

export function readNfs(data: unknown): Read {
  const { export: share, name, format, options, mount_point_base } = parse(nfs, data);
  const mountPoint = join(mount_point_base ?? DEFAULT_BASE, createHash('md5').update(share).digest('hex'));
  return {
    type: 'nfs',
    name: join(mountPoint, name),
    kind: format === 'qcow2' ? 'device' : 'file',
    facts: { share, mountPoint, file: name, format: format ?? 'raw', options: nfsOptions(options ?? '') },
  };
}

/** Goes on in the background; changes another mount. */
const NOT_HERE: ReadonlySet<string> = new Set(['bg', 'remount']);

/** `-o vers=4.1,hard` or `vers=4.1,hard`, as shares files have them; nothing else may reach mount.nfs. */
function nfsOptions(text: string): string {
  const options = text.trim().replace(/^-o\s*/, '');
  const unfit = options.split(',').find(option => NOT_HERE.has(option));
  if (unfit !== undefined) throw refuse('options', `"${unfit}" is not accepted`);
  if (/^[A-Za-z0-9_.,=:/-]*$/.test(options) && !options.startsWith('-')) return options;
  throw refuse('options', 'mount options such as "-o vers=4.1,hard" are accepted');
}

const rbdName = z.string().regex(/^\w[\w.-]*(?:\/\w[\w.-]*){1,2}$/, 'POOL/IMAGE is accepted');
const word = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'a plain name is accepted');
const rbd = z.object({
  name: rbdName,
  hosts: z.array(z.string().regex(/^[[\]A-Za-z0-9.:_-]+$/)).nullish(),
  ports: z.array(z.union([z.string(), z.number()]).transform(String).pipe(z.string().regex(/^\d+$/))).nullish(),
  cluster_name: word.nullish(),
  auth_enabled: z.boolean().nullish(),
  auth_username: word.nullish(),
  keyring: z.string().max(65_536).nullish(),
});

export function readRbd(data: unknown): Read {
  const { name, hosts, ports, cluster_name, auth_enabled, auth_username, keyring } = parse(rbd, data);
  const cluster = cluster_name ?? 'ceph';
  const monitors = (hosts ?? []).map((host, i) => `${host}:${ports?.[i] ?? '6789'}`);
  const user = auth_enabled === false ? undefined : (auth_username ?? undefined);
  return {
    type: 'rbd',
    name: `rbd:${cluster}/${name}`,
    kind: 'device',
    facts: { image: name, cluster, monitors, ...(user !== undefined && { user }) },
    ...(keyring && { secrets: { keyring } }),
  };
}
