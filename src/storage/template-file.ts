/** template.json: what is known of a template beside its image. */
import { type BigIntStats, readFileSync, statSync } from 'node:fs';
import { FS_TYPES } from '../engine/model.ts';
import type { Template } from '../engine/ports.ts';
import { ShiftvolError } from '../errors.ts';
import { isNodeErrno } from '../kernel/errno.ts';
import type { Layout } from './layout.ts';

/** Raised when a reader of the older form would misread the newer. */
const FORMAT = 1;

/** What was read, by file, and what the file was then. */
const known = new Map<string, { readonly stats: BigIntStats; readonly template: Template }>();
const MOST_KNOWN = 256;

/**
 * Reads the file where it is another one than the last time; asking that takes a tenth of reading it.
 * @throws SV_TEMPLATE_NOT_FOUND; SV_STORE: the file is damaged
 */
export function readTemplate(at: Layout, name: string): Template {
  const file = at.metadata(name);
  const before = known.get(file);
  const stats = statSync(file, { bigint: true, throwIfNoEntry: false });
  if (stats !== undefined && before !== undefined && isSame(stats, before.stats)) return before.template;
  known.delete(file);
  const template = read(file, at, name);
  // The facts are older than the content: what was replaced in between is read again the next time.
  if (stats !== undefined && known.size < MOST_KNOWN) known.set(file, { stats, template });
  return template;
}

/** A template is never changed in place, and ctime cannot be set. */
function isSame(a: BigIntStats, b: BigIntStats): boolean {
  return a.ino === b.ino && a.dev === b.dev && a.ctimeNs === b.ctimeNs && a.size === b.size;
}

function read(file: string, at: Layout, name: string): Template {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (!isNodeErrno(error, 'ENOENT', 'ENOTDIR')) throw error;
    throw new ShiftvolError(
      'SV_TEMPLATE_NOT_FOUND',
      `Cannot find template "${name}": none of this name in ${at.templates}`,
      {
        field: 'template',
        remedy: 'see "shiftvol template list"',
      },
    );
  }
  try {
    return parse(JSON.parse(text), at.image(name), name);
  } catch (error) {
    throw new ShiftvolError('SV_STORE', `Cannot read ${file}: it is not the metadata of template "${name}"`, {
      remedy: 'remove the template and import it again',
      cause: error,
    });
  }
}

/** What `readTemplate` reads. The image's path is not kept: the pool may be mounted elsewhere. */
export function templateText(template: Template): string {
  const { path: _, ...kept } = template;
  return `${JSON.stringify({ format: FORMAT, ...kept }, null, 2)}\n`;
}

function parse(value: unknown, path: string, name: string): Template {
  const record = new Map(Object.entries(value !== null && typeof value === 'object' ? value : {}));
  const wrong = (key: string): never => {
    throw new TypeError(`"${key}" is ${JSON.stringify(record.get(key))}`);
  };
  const text = (key: string): string => {
    const found = record.get(key);
    return typeof found === 'string' ? found : wrong(key);
  };
  const count = (key: string): number => {
    const found = record.get(key);
    return typeof found === 'number' && Number.isSafeInteger(found) && found >= 0 ? found : wrong(key);
  };
  if (record.get('format') !== FORMAT) wrong('format');
  if (text('name') !== name) wrong('name');
  return {
    name,
    fsType: FS_TYPES.find(t => t === text('fsType')) ?? wrong('fsType'),
    uuid: text('uuid'),
    label: text('label'),
    sizeBytes: count('sizeBytes'),
    idBase: count('idBase'),
    sha256: text('sha256'),
    extents: count('extents'),
    path,
    createdAt: text('createdAt'),
  };
}
