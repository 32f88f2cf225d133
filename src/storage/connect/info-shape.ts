import type { z } from 'zod';
import type { Connection } from '../../engine/model.ts';
import { ShiftvolError } from '../../errors.ts';

/** What a reader of one type makes of the data; the rest is the same for all. */
export type Read = Pick<Connection, 'type' | 'name' | 'kind' | 'facts'> & { readonly secrets?: Record<string, string> };

/** @throws SV_CONNECTION_INFO */
export function parse<T>(shape: z.ZodType<T>, value: unknown): T {
  const parsed = shape.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw refuse(issue?.path.join('.') ?? '', issue?.message ?? 'not valid');
}

export function refuse(field: string, what: string): ShiftvolError {
  return new ShiftvolError(
    'SV_CONNECTION_INFO',
    `Cannot use the volume's connection_info: ${field === '' ? '' : `"${field}": `}${what}`,
    { field },
  );
}
