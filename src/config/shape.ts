/**
 * Readers for the configuration: each takes what YAML gave and returns a typed value, or throws a `Misfit` that names the key.
 * Own code, since the schema library takes twice Node's own start-up time (measured: 40 ms on 23 ms), and every command reads
 * the configuration.
 */

export type KeyPath = readonly (string | number)[];
export type Reader<T> = (value: unknown, path: KeyPath) => T;

/** JSON Schema of what a reader accepts, as far as that can be said in it. */
export type JsonSchema = { readonly [keyword: string]: unknown };
const schemas = new WeakMap<object, () => JsonSchema>();

/** Notes what a reader accepts. Asked for by `config schema` alone, so it is made then. */
export function accepting<R extends Reader<unknown>>(read: R, schema: () => JsonSchema): R {
  schemas.set(read, schema);
  return read;
}

/** What a reader accepts; `{}` where nobody said. */
export const jsonSchemaOf = (read: Reader<unknown>): JsonSchema => schemas.get(read)?.() ?? {};

/** A value that does not fit. `text` is "<what is>, <what is accepted>". */
export class Misfit extends Error {
  readonly path: KeyPath;
  /** What is wrong is the key's name, not its value. */
  readonly unknownKey: boolean;
  constructor(path: KeyPath, text: string, unknownKey = false) {
    super(text);
    this.name = 'Misfit';
    this.path = path;
    this.unknownKey = unknownKey;
  }
}

type Camel<S extends string> = S extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<Camel<Tail>>}` : S;
type Fields = Readonly<Record<string, Reader<unknown>>>;
type ReadFields<F extends Fields> = {
  readonly [K in keyof F & string as Camel<K>]: F[K] extends Reader<infer T> ? T : never;
};

/** Fields by name, snake_case in the file and camelCase in the program. Absent or empty: every field at its default. */
export function object<const F extends Fields>(fields: F): Reader<ReadFields<F>> {
  const read: Reader<ReadFields<F>> = (value, path) => {
    const given = value ?? {};
    if (!isMapping(given)) throw new Misfit(path, `${show(value)}, a mapping of keys is accepted`);
    for (const key of Object.keys(given)) {
      if (!Object.hasOwn(fields, key))
        throw new Misfit([...path, key], `no such key${suggest(key, Object.keys(fields))}`, true);
    }
    const entries = Object.entries(fields).map(([key, read]) => [
      camel(key),
      read(Object.hasOwn(given, key) ? given[key] : undefined, [...path, key]),
    ]);
    // fromEntries cannot know which key got which type; the mapped type says exactly what the line above does.
    return Object.fromEntries(entries) as ReadFields<F>;
  };
  return accepting(read, () => ({
    type: ['object', 'null'],
    properties: Object.fromEntries(Object.entries(fields).map(([key, field]) => [key, jsonSchemaOf(field)])),
    required: Object.keys(fields).filter(key => isRequired(fields[key])),
    additionalProperties: false,
  }));
}

/** A mapping whose keys are names that this table knows, as they are: `instance.create.start`. Absent: the table's value. */
export function switches<const K extends string>(
  defaults: Readonly<Record<K, boolean>>,
): Reader<ReadonlyMap<K, boolean>> {
  const names = Object.keys(defaults) as K[]; // Object.keys forgets the literal type
  const read: Reader<ReadonlyMap<K, boolean>> = (value, path) => {
    const given = value ?? {};
    if (!isMapping(given))
      throw new Misfit(path, `${show(value)}, a mapping of event names to true or false is accepted`);
    for (const key of Object.keys(given)) {
      if (!Object.hasOwn(defaults, key)) throw new Misfit([...path, key], `no such event${suggest(key, names)}`, true);
    }
    return new Map(
      names.map(name => [
        name,
        boolean(defaults[name])(Object.hasOwn(given, name) ? given[name] : undefined, [...path, name]),
      ]),
    );
  };
  return accepting(read, () => ({
    type: ['object', 'null'],
    properties: Object.fromEntries(names.map(name => [name, jsonSchemaOf(boolean(defaults[name]))])),
    additionalProperties: false,
  }));
}

export function list<T>(item: Reader<T>, fallback: readonly unknown[] = [], max = 10_000): Reader<readonly T[]> {
  const read: Reader<readonly T[]> = (value, path) => {
    const given = value ?? fallback;
    if (!Array.isArray(given)) throw new Misfit(path, `${show(value)}, a list is accepted`);
    if (given.length > max) throw new Misfit(path, `${given.length} entries, at most ${max} are accepted`);
    return given.map((entry, i) => item(entry, [...path, i]));
  };
  return accepting(read, () => ({
    type: ['array', 'null'],
    items: jsonSchemaOf(item),
    maxItems: max,
    default: fallback,
  }));
}

type Pattern = { readonly test: (text: string) => boolean };

export function string(options: { fallback?: string; pattern?: Pattern; accepted?: string } = {}): Reader<string> {
  const read: Reader<string> = (value, path) => {
    const given = value ?? options.fallback;
    const accepted = options.accepted ?? 'a text that is not empty';
    if (given === undefined) throw new Misfit(path, `nothing, ${accepted} is required`);
    if (typeof given !== 'string' || given === '') throw new Misfit(path, `${show(given)}, ${accepted} is accepted`);
    if (options.pattern && !options.pattern.test(given))
      throw new Misfit(path, `${show(given)}, ${accepted} is accepted`);
    return given;
  };
  return accepting(read, () => ({
    type: options.fallback === undefined ? 'string' : ['string', 'null'],
    minLength: 1,
    ...(options.pattern instanceof RegExp && { pattern: options.pattern.source }),
    ...(options.accepted !== undefined && { description: options.accepted }),
    ...(options.fallback !== undefined && { default: options.fallback }),
  }));
}

export function integer(options: { fallback: number; min: number; max: number }): Reader<number> {
  const read: Reader<number> = (value, path) => {
    const given = value ?? options.fallback;
    if (typeof given !== 'number' || !Number.isInteger(given) || given < options.min || given > options.max)
      throw new Misfit(path, `${show(given)}, a whole number from ${options.min} to ${options.max} is accepted`);
    return given;
  };
  return accepting(read, () => ({
    type: ['integer', 'null'],
    minimum: options.min,
    maximum: options.max,
    default: options.fallback,
  }));
}

export function fraction(fallback: number): Reader<number> {
  const read: Reader<number> = (value, path) => {
    const given = value ?? fallback;
    if (typeof given !== 'number' || !(given >= 0 && given <= 1))
      throw new Misfit(path, `${show(given)}, a number from 0 to 1 is accepted`);
    return given;
  };
  return accepting(read, () => ({ type: ['number', 'null'], minimum: 0, maximum: 1, default: fallback }));
}

export function boolean(fallback: boolean): Reader<boolean> {
  const read: Reader<boolean> = (value, path) => {
    const given = value ?? fallback;
    if (typeof given !== 'boolean') throw new Misfit(path, `${show(given)}, true or false is accepted`);
    return given;
  };
  return accepting(read, () => ({ type: ['boolean', 'null'], default: fallback }));
}

export function oneOf<const T extends string>(values: readonly T[], fallback: T): Reader<T> {
  const read: Reader<T> = (value, path) => {
    const given = value ?? fallback;
    const found = values.find(v => v === given);
    if (found === undefined) throw new Misfit(path, `${show(given)}, one of ${values.join(', ')} is accepted`);
    return found;
  };
  return accepting(read, () => ({ enum: [...values, null], default: fallback }));
}

/** null or absent stays null; anything else is read. */
export function nullable<T>(read: Reader<T>): Reader<T | null> {
  return accepting<Reader<T | null>>(
    (value, path) => (value === undefined || value === null ? null : read(value, path)),
    () => ({ anyOf: [{ type: 'null' }, jsonSchemaOf(read)], default: null }),
  );
}

const UNITS: Readonly<Record<string, number>> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
/** Bytes: a whole number, or `10GiB`, `512 MiB`. */
export function size(fallback?: number): Reader<number> {
  const read: Reader<number> = (value, path) => {
    const given = value ?? fallback;
    const match = /^(\d{1,15}) ?(B|KiB|MiB|GiB|TiB)$/.exec(typeof given === 'string' ? given : '');
    const bytes = match ? Number(match[1]) * (UNITS[match[2] ?? 'B'] ?? 1) : given;
    if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes) || bytes <= 0)
      throw new Misfit(path, `${show(given)}, bytes or a size like 10GiB or 512 MiB is accepted`);
    return bytes;
  };
  return accepting(read, () => ({
    anyOf: [
      { type: 'integer', minimum: 1 },
      { type: 'string', pattern: '^\\d{1,15} ?(B|KiB|MiB|GiB|TiB)$' },
      ...(fallback === undefined ? [] : [{ type: 'null' }]),
    ],
    ...(fallback !== undefined && { default: fallback }),
  }));
}

/** No control characters: for names that end up in logs. By hand, since the first regular expression with \p{} costs some milliseconds. */
export function isPrintable(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return false;
  }
  return true;
}

/** `bus.exchanges[1].topics` */
export function showPath(path: KeyPath): string {
  return path.map((p, i) => (typeof p === 'number' ? `[${p}]` : i === 0 ? p : `.${p}`)).join('');
}

function isRequired(read: Reader<unknown> | undefined): boolean {
  try {
    read?.(undefined, []);
    return false;
  } catch (error) {
    if (error instanceof Misfit) return true;
    throw error;
  }
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Short, and with no secret: nothing of a list or mapping, no text that has a password. */
function show(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  if (typeof value === 'object') return Array.isArray(value) ? 'a list' : 'a mapping';
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  if (/:\/\/|@/.test(text)) return 'a text with a URL';
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function camel(key: string): string {
  return key.replace(/_([a-z0-9])/g, (_, c: string) => c.toUpperCase());
}

function suggest(key: string, names: readonly string[]): string {
  const near = names
    .map(name => ({ name, distance: editDistance(key.toLowerCase(), name) }))
    .filter(n => n.distance <= Math.max(2, Math.floor(n.name.length / 4)))
    .sort((a, b) => a.distance - b.distance)[0];
  return near
    ? `, did you mean "${near.name}"?`
    : `, ${names.length > 12 ? 'see plugin.yaml' : names.join(', ')} are accepted`;
}

/** Levenshtein, one row at a time; keys are short. */
function editDistance(a: string, b: string): number {
  if (a.length > 60) return a.length;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
