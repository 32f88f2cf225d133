/** Which method a request means, by the rules of oslo.messaging's dispatcher. Pure. */
import { ShiftvolError } from '../../errors.ts';
import { RemoteError, type RpcEndpoint, type RpcMethod } from './endpoint.ts';
import type { RpcRequest } from './request.ts';

const MODULE = 'oslo_messaging.rpc.dispatcher';

/**
 * The first endpoint of the namespace that understands the version and has the method. A version is understood where the major number is
 * the same and the minor one not higher.
 * @throws RemoteError: UnsupportedVersion (also for an unknown namespace) or NoSuchMethod, with Python's own texts
 */
export function findMethod(
  endpoints: readonly RpcEndpoint[],
  { method, namespace, version }: Pick<RpcRequest, 'method' | 'namespace' | 'version'>,
): RpcMethod {
  const fitting = endpoints.filter(e => e.namespace === namespace && understands(e.version, version));
  if (fitting.length === 0)
    throw new RemoteError(
      'UnsupportedVersion',
      `Endpoint does not support RPC version ${version}. Attempted method: ${method}`,
      { module: MODULE },
    );
  const found = method.startsWith('_') ? undefined : fitting.find(e => e.methods.has(method))?.methods.get(method);
  if (found === undefined)
    throw new RemoteError('NoSuchMethod', `Endpoint does not support RPC method ${method}`, { module: MODULE });
  return found;
}

function understands(offered: string, wanted: string): boolean {
  const [ours, theirs] = [numbers(offered), numbers(wanted)];
  return ours !== undefined && theirs !== undefined && ours.major === theirs.major && theirs.minor <= ours.minor;
}

/** `1.3`; anything else is no version. */
function numbers(version: string): { readonly major: number; readonly minor: number } | undefined {
  const [, major, minor] = /^(\d{1,9})\.(\d{1,9})$/.exec(version) ?? [];
  return major === undefined ? undefined : { major: Number(major), minor: Number(minor) };
}

/** At the start, so that a slip of the pen is no UnsupportedVersion for ever. @throws SV_INTERNAL */
export function checkEndpoints(endpoints: readonly RpcEndpoint[]): void {
  for (const { version } of endpoints)
    if (numbers(version) === undefined)
      throw new ShiftvolError('SV_INTERNAL', `Cannot serve version "${version}": "1.3" would be one`);
}
