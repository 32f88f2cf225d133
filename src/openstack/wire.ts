import type { z } from 'zod';
import { ShiftvolError } from '../errors.ts';

/** An answer that decides something, checked. @throws SV_OPENSTACK naming the field */
export function readAnswer<S extends z.ZodType>(shape: S, body: unknown, purpose: string): z.output<S> {
  const read = shape.safeParse(body);
  if (read.success) return read.data;
  const [issue] = read.error.issues;
  const field = issue?.path.join('.') ?? '';
  throw new ShiftvolError('SV_OPENSTACK', `Cannot ${purpose}: the answer's "${field}" is not what it should be`, {
    field,
    remedy: 'see that the endpoint in the catalogue is that of this service',
  });
}
