/** What a caller in Python is told of an error: the class that it catches, and nothing of how we came to it. Pure. */
import { isError, report } from '../../errors.ts';
import { argumentError, RemoteError } from './endpoint.ts';

/**
 * A RemoteError is told as it is. A ShiftvolError that nobody translated is `shiftvol.ShiftvolError` with its code, one that says that
 * the arguments have not the required shape a TypeError. All else is a fault of ours, whose text is for our log alone.
 */
export function remoteErrorOf(error: unknown, method: string): RemoteError {
  if (error instanceof RemoteError) return error;
  if (isError(error, 'SV_MESSAGE')) return argumentError(report(error).message);
  const told = isError(error)
    ? report(error)
    : { code: 'SV_INTERNAL', message: `Cannot carry out "${method}": a fault of shiftvol itself, its log says which` };
  const { message, ...kwargs } = told;
  return new RemoteError('ShiftvolError', message, { module: 'shiftvol', kwargs });
}

/**
 * The `failure` of a reply: JSON in the JSON. `tb` is empty: what stands there ends up in the fault of a user's instance.
 * @throws TypeError where args or kwargs are no JSON
 */
export function failureOf({ className, module, message, args, kwargs }: RemoteError): string {
  return JSON.stringify({ class: className, module, message, tb: [], args, kwargs });
}
