/**
 * A qcow2 file names the file below it, and that the next: whoever can write a header could have us read any file, device or server.
 * Each is looked at by itself, before the next is opened by anybody.
 */
import { lstat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { ShiftvolError } from '../../errors.ts';
import { isNodeErrno } from '../../kernel/errno.ts';
import { runTool } from '../tool.ts';
import { within } from './wait.ts';

/** No chain of a service is that long. */
const MAX_CHAIN = 256;
/** A server that is away makes whoever asks about a file wait for ever. */
const LOOK_MS = 20_000;
/** Cinder's are `volume-UUID` and `volume-UUID.UUID`; with a colon qemu would take it for a protocol. */
const FILE_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/;

const FORMATS = z.enum(['qcow2', 'raw']);
const shape = z.object({
  'virtual-size': z.int().positive(),
  encrypted: z.literal(false).optional(),
  'backing-filename': z.string().optional(),
  'backing-filename-format': z.string().optional(),
  'format-specific': z.looseObject({ data: z.looseObject({ 'data-file': z.undefined().optional() }) }).optional(),
});

/**
 * `path`: a qcow2 file in `directory`, in which all that it stands on has to be. What its disk has in bytes.
 * @throws SV_IMAGE_REFUSED; SV_TOOL: no qcow2 file
 */
export async function requireOwnChain(
  path: string,
  directory: string,
  signal: AbortSignal | undefined,
): Promise<number> {
  let [file, format] = [path, 'qcow2'];
  let sizeBytes: number | undefined;
  const seen = new Set<string>();
  while (!seen.has(file) && seen.size < MAX_CHAIN) {
    seen.add(file);
    await requireFile(file, path, signal);
    const image = await read(file, format, path, signal);
    sizeBytes ??= image['virtual-size'];
    const below = image['backing-filename'];
    if (below === undefined) return sizeBytes;
    file = inside(below, directory, path);
    format = formatOf(image['backing-filename-format'], below, path);
  }
  throw refused(path, `it stands on itself, or on ${MAX_CHAIN} others`);
}

/** Of its disk, without a look at what it stands on. @throws SV_IMAGE_REFUSED, SV_TOOL */
export async function qcow2Size(path: string, signal: AbortSignal | undefined): Promise<number> {
  return (await read(path, 'qcow2', path, signal))['virtual-size'];
}

/** -U: another host, or our own qemu-nbd, may have the image's lock; only the header is read. */
async function read(file: string, format: string, path: string, signal: AbortSignal | undefined) {
  const args = ['info', '-U', '--output=json', '-f', format, file];
  const deadline = AbortSignal.any([AbortSignal.timeout(LOOK_MS), ...(signal ? [signal] : [])]);
  const { stdout } = await runTool('qemu-img', args, { signal: deadline });
  const parsed = shape.safeParse(JSON.parse(stdout));
  if (parsed.success) return parsed.data;
  throw refused(path, 'one of its files is encrypted by qemu, or keeps its data in another file');
}

/** A symbolic link on a share leads wherever this host has it lead. */
async function requireFile(file: string, path: string, signal: AbortSignal | undefined): Promise<void> {
  try {
    if ((await within(LOOK_MS, signal, `look at ${file}`, lstat(file))).isFile()) return;
  } catch (error) {
    if (!isNodeErrno(error, 'ENOENT')) throw error;
    throw refused(path, `it stands on ${JSON.stringify(basename(file))}, which is not there`);
  }
  throw refused(path, `${JSON.stringify(basename(file))} is not a regular file`);
}

function inside(below: string, directory: string, path: string): string {
  const file = resolve(directory, below);
  if (dirname(file) === resolve(directory) && FILE_NAME.test(basename(file))) return join(directory, basename(file));
  throw refused(path, `it leads out of its share, to ${JSON.stringify(below)}`);
}

/** Without a word about it qemu goes by the contents, and those are the user's. */
function formatOf(told: string | undefined, below: string, path: string): string {
  const format = FORMATS.safeParse(told);
  if (format.success) return format.data;
  throw refused(
    path,
    `it says ${told === undefined ? 'nothing' : JSON.stringify(told)} of the format of ${JSON.stringify(below)}, qcow2 and raw are accepted`,
  );
}

function refused(path: string, what: string): ShiftvolError {
  return new ShiftvolError('SV_IMAGE_REFUSED', `Cannot use the image ${JSON.stringify(path)}: ${what}`, {
    remedy: 'see with "qemu-img info" what its header says',
  });
}
