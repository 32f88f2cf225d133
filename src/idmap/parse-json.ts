/** The two JSON forms, by hand: a schema library would take longer to load than everything else that reads a map. */
import { ShiftvolError } from '../errors.ts';
import { type IdmapForm, SHAPES } from './forms.ts';
import type { Extent, IdKind, Idmap } from './idmap.ts';
import { fsId, hostId } from './ids.ts';

/** `{"extents":[...]}`, as `--json` prints it (`problems` of `check --json` are passed over). */
export function parseJson(text: string): Idmap {
  const document = record('json', '', read('json', text), ['extents', 'problems']);
  return list('json', 'extents', document['extents']).map((value, index): Extent => {
    const field = `extents[${index}]`;
    const entry = record('json', field, value, ['kind', 'fsId', 'hostId', 'count']);
    return {
      kind: kind(field, entry['kind']),
      fsId: fsId(number('json', `${field}.fsId`, entry['fsId']), `${field}.fsId`),
      hostId: hostId(number('json', `${field}.hostId`, entry['hostId']), `${field}.hostId`),
      count: number('json', `${field}.count`, entry['count']),
    };
  });
}

/** LXD's and Incus' `volatile.idmap.*` and `volatile.last_state.idmap`. Keys that they may add some day are passed over. */
export function parseLxdJson(text: string): Idmap {
  return list('lxd-json', 'the document', read('lxd-json', text)).flatMap((value, index): Extent[] => {
    const field = `[${index}]`;
    const entry = record('lxd-json', field, value);
    const isUid = flag(`${field}.Isuid`, entry['Isuid']);
    const isGid = flag(`${field}.Isgid`, entry['Isgid']);
    if (!isUid && !isGid) throw syntax('lxd-json', field, 'neither Isuid nor Isgid is true');
    const facts = {
      fsId: fsId(number('lxd-json', `${field}.Nsid`, entry['Nsid']), `${field}.Nsid`),
      hostId: hostId(number('lxd-json', `${field}.Hostid`, entry['Hostid']), `${field}.Hostid`),
      count: number('lxd-json', `${field}.Maprange`, entry['Maprange']),
    };
    return [
      ...(isUid ? [{ kind: 'uid' as const, ...facts }] : []),
      ...(isGid ? [{ kind: 'gid' as const, ...facts }] : []),
    ];
  });
}

type JsonForm = Extract<IdmapForm, 'json' | 'lxd-json'>;

function read(form: JsonForm, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw syntax(form, '', 'it is not JSON', cause);
  }
}

function record(
  form: JsonForm,
  field: string,
  value: unknown,
  keys?: readonly string[],
): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw syntax(form, field, 'it is not an object');
  const entries = Object.entries(value);
  const unknown = keys && entries.find(([key]) => !keys.includes(key));
  if (unknown) throw syntax(form, field, `key ${JSON.stringify(unknown[0])} is unknown`);
  return Object.assign(Object.create(null), Object.fromEntries(entries));
}

function list(form: JsonForm, field: string, value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw syntax(form, field, 'it is not a list');
  if (value.length === 0) throw syntax(form, field, 'it is an empty list, at least one extent is needed');
  return value;
}

function kind(field: string, value: unknown): IdKind {
  if (value === 'uid' || value === 'gid') return value;
  throw syntax('json', `${field}.kind`, `${JSON.stringify(value) ?? 'missing'} is not uid or gid`);
}

function number(form: JsonForm, field: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw syntax(form, field, `${JSON.stringify(value) ?? 'missing'} is not a whole number of at least 0`);
}

function flag(field: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value;
  throw syntax('lxd-json', field, `${JSON.stringify(value) ?? 'missing'} is not true or false`);
}

function syntax(form: JsonForm, field: string, what: string, cause?: unknown): ShiftvolError {
  return new ShiftvolError(
    'SV_IDMAP_SYNTAX',
    `Cannot read the idmap's JSON${field === '' ? '' : ` at ${field}`}: ${what}, accepted is ${SHAPES[form]}`,
    { ...(field === '' ? {} : { field }), ...(cause === undefined ? {} : { cause }) },
  );
}
