/** What monitoring asks every service of OpenStack. */
import { argumentError, type RpcArgs, type RpcEndpoint, type RpcMethod } from './endpoint.ts';

/** Nova's `baseapi` and oslo.messaging's `rpc_ping_enabled`. `service`: the name that `ping` answers with. */
export function healthEndpoints(service: string): readonly RpcEndpoint[] {
  const baseApi = new Map<string, RpcMethod>([
    ['ping', async args => ({ service, arg: only(args, 'ping', 'arg') })],
    // As of a service that was started without one.
    ['get_backdoor_port', async () => null],
  ]);
  const oslo = new Map<string, RpcMethod>([['oslo_rpc_server_ping', async () => 'pong']]);
  return [
    { namespace: 'baseapi', version: '1.1', methods: baseApi, quick: new Set(baseApi.keys()) },
    { version: '1.0', methods: oslo, quick: new Set(oslo.keys()) },
  ];
}

/** The one argument of a method. @throws RemoteError: TypeError */
function only(args: RpcArgs, method: string, name: string): unknown {
  const other = Object.keys(args).find(key => key !== name);
  if (other !== undefined) throw argumentError(`${method}() got an unexpected keyword argument '${other}'`);
  if (!Object.hasOwn(args, name)) throw argumentError(`${method}() missing 1 required argument: '${name}'`);
  return args[name];
}
