import { ShiftvolError } from '../errors.ts';
import { ALL_SHAPES, type IdmapForm, SHAPES } from './forms.ts';
import type { Extent, IdKind, Idmap } from './idmap.ts';
import { fsId, hostId } from './ids.ts';
import { parseJson, parseLxdJson } from './parse-json.ts';

export type ParseOptions = {
  /** Without it the text itself tells. */
  readonly form?: IdmapForm;
  /** What an entry without a kind maps (`triple`, `proc`, `subid`). Default: both. */
  readonly kind?: IdKind;
};

/** Longest text that is looked at; 340 extents of each kind take a tenth of it in the longest form. */
const MAX_TEXT = 1 << 20;

/**
 * Reads an idmap in any form of `IDMAP_FORMS`, in the order of the text; an entry for both kinds becomes a uid and a gid extent.
 * Entries stand on lines of their own or are separated by commas, those with colons also by blanks. Whether the map makes sense
 * (overlaps, host ids that are too low) is for `checkIdmap` to say.
 * @throws SV_IDMAP_SYNTAX naming the entry and what is accepted; SV_IDMAP_INVALID: an id past 4294967294
 */
export function parseIdmap(text: string, options: ParseOptions = {}): Idmap {
  if (text.length > MAX_TEXT)
    throw new ShiftvolError(
      'SV_IDMAP_SYNTAX',
      `Cannot read an idmap of ${text.length} characters: at most ${MAX_TEXT} are accepted`,
    );
  const trimmed = text.replace(/^[ \t\n]+|[ \t\n]+$/g, '');
  if (trimmed === '')
    throw new ShiftvolError('SV_IDMAP_SYNTAX', `Cannot read an idmap: it is empty, accepted are ${ALL_SHAPES}`);
  const form = options.form ?? detect(trimmed);
  if (form === 'json') return parseJson(trimmed);
  if (form === 'lxd-json') return parseLxdJson(trimmed);
  const kinds: readonly IdKind[] = options.kind === undefined ? BOTH : [options.kind];
  const entries = trimmed
    .split(COLON_FORMS.has(form) ? /[ \t\n,]+/ : /[ \t]*[\n,][ \t\n,]*/)
    .filter(entry => entry !== '');
  const read = form === 'subid' ? subidReader() : READERS[form];
  let index = 0;
  return entries.flatMap((source, number) => {
    const extents = read({ source, number: number + 1, form, index, kinds });
    index += extents.length;
    return extents;
  });
}

/** The map of a user namespace from its uid_map and gid_map: id inside -> id outside. Empty texts map nothing. */
export function parseProcMaps(uidMap: string, gidMap: string): Idmap {
  return [...parseProcMap(uidMap, 'uid'), ...parseProcMap(gidMap, 'gid')];
}

export function parseProcMap(text: string, kind: IdKind): Idmap {
  return text.trim() === '' ? [] : parseIdmap(text, { form: 'proc', kind });
}

const BOTH = ['uid', 'gid'] as const satisfies readonly IdKind[];
const COLON_FORMS: ReadonlySet<IdmapForm> = new Set(['mount', 'triple', 'subid']);
type TextForm = Exclude<IdmapForm, 'json' | 'lxd-json'>;

function detect(text: string): IdmapForm {
  if (text.startsWith('{')) return 'json';
  if (text.startsWith('[')) return 'lxd-json';
  const [line = ''] = text.split(/[\n,]/);
  const words = line.trimEnd().split(/[ \t]+/);
  const first = words[0] ?? '';
  if (/^lxc\.id_?map/.test(first) || /^[ugb]$/.test(first)) return 'lxc';
  if (/^(uid|gid|both)$/.test(first)) return words.length === 3 ? 'lxd' : 'columns';
  if (/^(X-mount\.idmap=)?[ugb]:/.test(first)) return 'mount';
  if (/^[0-9]*:/.test(first)) return 'triple';
  if (/^[A-Za-z_][^:]*:[^:]*:[^:]*$/.test(first)) return 'subid';
  if (/^[0-9]+$/.test(first)) return 'proc';
  throw new ShiftvolError(
    'SV_IDMAP_SYNTAX',
    `Cannot read idmap entry 1 ${JSON.stringify(line)}: accepted are ${ALL_SHAPES}`,
    {
      field: 'extents[0]',
    },
  );
}

/** One entry of the text, and where its extents come in the map. */
type Entry = {
  readonly source: string;
  readonly number: number;
  readonly form: TextForm;
  readonly index: number;
  readonly kinds: readonly IdKind[];
};
type Reader = (entry: Entry) => readonly Extent[];

const READERS = {
  columns: entry => {
    const [kind, disk, host, count] = fields(entry, /[ \t]+/, 4);
    return extents(entry, kindsOf(entry, kind, WORDS), disk, host, count);
  },
  lxd: entry => {
    const [kind, host, container] = fields(entry, /[ \t]+/, 3);
    const outside = numberRange(entry, 'hostId', host);
    const inside = numberRange(entry, 'fsId', container);
    if (outside.count !== inside.count)
      throw syntax(entry, 'count', `${host} are ${outside.count} ids and ${container} are ${inside.count}`);
    return extents(entry, kindsOf(entry, kind, WORDS), inside.start, outside.start, outside.count);
  },
  lxc: entry => {
    const value = entry.source.replace(/^lxc\.id_?map[ \t]*[=:][ \t]*/, '');
    const [kind, container, host, count] = fields({ ...entry, source: value }, /[ \t]+/, 4);
    return extents(entry, kindsOf(entry, kind, LETTERS), container, host, count);
  },
  mount: entry => {
    const value = entry.source.replace(/^X-mount\.idmap=/, '');
    const [kind, disk, host, count] = fields({ ...entry, source: value }, ':', 4);
    return extents(entry, kindsOf(entry, kind, LETTERS), disk, host, count);
  },
  triple: entry => {
    const [disk, host, count] = fields(entry, ':', 3);
    return extents(entry, entry.kinds, disk, host, count);
  },
  proc: entry => {
    const [inside, outside, count] = fields(entry, /[ \t]+/, 3);
    return extents(entry, entry.kinds, inside, outside, count);
  },
} as const satisfies Record<Exclude<TextForm, 'subid'>, Reader>;

/** Ids from 0 on get the ranges of one owner, one after the other, as newuidmap's callers use them. */
function subidReader(): Reader {
  let next = 0;
  let owner: string | undefined;
  return entry => {
    const [name, start, count] = fields(entry, ':', 3);
    owner ??= name;
    if (name !== owner)
      throw syntax(entry, 'owner', `${JSON.stringify(name)} is another owner than ${JSON.stringify(owner)}`);
    const read = extents(entry, entry.kinds, next, start, count);
    next += read[0]?.count ?? 0;
    return read;
  };
}

const WORDS: Readonly<Record<string, readonly IdKind[]>> = { uid: ['uid'], gid: ['gid'], both: BOTH };
const LETTERS: Readonly<Record<string, readonly IdKind[]>> = { u: ['uid'], g: ['gid'], b: BOTH };

function kindsOf(entry: Entry, word: string, accepted: Readonly<Record<string, readonly IdKind[]>>): readonly IdKind[] {
  const kinds = Object.hasOwn(accepted, word) ? accepted[word] : undefined;
  if (kinds === undefined)
    throw syntax(entry, 'kind', `kind ${JSON.stringify(word)} is not one of ${Object.keys(accepted).join(', ')}`);
  return kinds;
}

function extents(
  entry: Entry,
  kinds: readonly IdKind[],
  disk: string | number,
  host: string | number,
  count: string | number,
): readonly Extent[] {
  const field = `extents[${entry.index}]`;
  const facts = {
    fsId: fsId(toNumber(entry, 'fsId', disk), `${field}.fsId`),
    hostId: hostId(toNumber(entry, 'hostId', host), `${field}.hostId`),
    count: toNumber(entry, 'count', count),
  };
  return kinds.map(kind => ({ kind, ...facts }));
}

type Fields<N extends 3 | 4> = N extends 3 ? [string, string, string] : [string, string, string, string];
function fields<N extends 3 | 4>(entry: Entry, separator: string | RegExp, wanted: N): Fields<N>;
function fields(entry: Entry, separator: string | RegExp, wanted: number): readonly string[] {
  const found = entry.source.split(separator);
  if (found.length === wanted) return found;
  throw syntax(entry, '', `it has ${found.length} field${found.length === 1 ? '' : 's'}, not ${wanted}`);
}

function toNumber(entry: Entry, field: string, text: string | number): number {
  if (typeof text === 'number') return text;
  // No sign, no blank, no hex, and no leading zero either: other tools read that as octal.
  if (/^(0|[1-9][0-9]{0,14})$/.test(text)) return Number(text);
  throw syntax(entry, field, `${field} ${JSON.stringify(text)} is not a plain decimal number`);
}

function numberRange(entry: Entry, field: string, text: string): { start: number; count: number } {
  const [first = '', last = first, ...rest] = text.split('-');
  if (rest.length > 0)
    throw syntax(entry, field, `${field} ${JSON.stringify(text)} is not a number or a range FIRST-LAST`);
  const start = toNumber(entry, field, first);
  const count = toNumber(entry, field, last) - start + 1;
  if (count < 1) throw syntax(entry, field, `${field} ${JSON.stringify(text)} is a range that ends before it begins`);
  return { start, count };
}

function syntax(entry: Entry, field: string, what: string): ShiftvolError {
  return new ShiftvolError(
    'SV_IDMAP_SYNTAX',
    `Cannot read idmap entry ${entry.number} ${JSON.stringify(entry.source)}: ${what}, accepted is "${SHAPES[entry.form]}"`,
    {
      field: `extents[${entry.index}]${field === '' ? '' : `.${field}`}`,
      remedy: 'other forms: see "shiftvol idmap parse --help"',
    },
  );
}
