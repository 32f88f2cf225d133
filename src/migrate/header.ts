/** What a stream says first of what it carries. A stream is hostile input: each field is checked before anything is done. */
import * as z from 'zod';
import { FS_TYPES } from '../engine/model.ts';
import { ShiftvolError } from '../errors.ts';

/** Raised when a reader of the older form would misread the newer. */
export const FORMAT = 1;
/** As large as an image may be: 64 TiB. */
const MOST_BYTES = 2 ** 46;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const bytes = z.int().positive().max(MOST_BYTES);
const idBase = z.int().nonnegative().max(0xffff_fffe);
const printable = z
  .string()
  .min(1)
  .max(255)
  .regex(/^[^\p{Cc}]*$/u);
const template = z.strictObject({
  name: z.string().regex(/^[a-z0-9_-][a-z0-9._-]{0,63}$/),
  sha256,
  sizeBytes: bytes,
  fsType: z.enum(FS_TYPES),
  idBase,
  /** Its image comes in this stream, before the volume. */
  included: z.boolean(),
});

export const headerShape = z.strictObject({
  format: z.literal(FORMAT),
  /** Of the attachment at the source: 16 hex digits, the same for every pass. */
  attachment: z.string().regex(/^[0-9a-f]{16}$/),
  instance: printable,
  project: printable.optional(),
  role: z.enum(['root', 'volume']),
  target: z.string().max(4095).startsWith('/'),
  readOnly: z.boolean(),
  fsType: z.enum(FS_TYPES),
  idBase,
  sizeBytes: bytes,
  /** All that is not in the stream is as in this template; or as in the version `since`, which the receiver has from an earlier pass. */
  template,
  /** Names the state of the volume that the stream brings. */
  version: sha256,
  since: sha256.optional(),
  /** No pass comes after it. */
  last: z.boolean(),
});
export type Header = z.infer<typeof headerShape>;

const path = z.string().min(1).max(4095).startsWith('/');

/** A volume that both hosts reach: only who it belongs to is told. */
const sharedShape = z.strictObject({
  format: z.literal(FORMAT),
  instance: printable,
  project: printable.optional(),
  role: z.enum(['root', 'volume']),
  target: z.string().max(4095).startsWith('/'),
  readOnly: z.boolean(),
  volumeId: printable.optional(),
  source: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('file'), path, idBase: idBase.optional() }),
    z.strictObject({ kind: z.literal('device'), path, idBase: idBase.optional() }),
  ]),
});
export type Shared = z.infer<typeof sharedShape>;

/** @throws SV_MESSAGE naming the field */
export function parseHeader(text: string): Header {
  return parse(headerShape, text);
}

/** @throws SV_MESSAGE naming the field */
export function parseShared(text: string): Shared {
  return parse(sharedShape, text);
}

function parse<T>(shape: z.ZodType<T>, text: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw notAStream('its header is not JSON', cause);
  }
  const parsed = shape.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw notAStream(`its header has "${issue?.path.join('.') ?? ''}": ${issue?.message ?? 'not valid'}`);
}

export function notAStream(what: string, cause?: unknown): ShiftvolError {
  return new ShiftvolError('SV_MESSAGE', `Cannot read the stream of a volume: ${what}`, {
    field: 'stream',
    remedy: 'make it with "shiftvol export" of a version that is not newer than this one',
    ...(cause === undefined ? {} : { cause }),
  });
}
