/** What agents tell each other over the bus: the words of it, and what is done when they are heard. */
import type { Cast } from '../bus/rpc/casts.ts';
import type { RpcArgs, RpcCall, RpcEndpoint, RpcMethod } from '../bus/rpc/endpoint.ts';
import { ShiftvolError } from '../errors.ts';
import type { PeerMethod, Peers } from '../migrate/peers.ts';
import type { Transfers } from './transfers.ts';

const NAMESPACE = 'shiftvol.agent';
const VERSION = '1.0';

/** `cast` may come later: nobody has anything to tell before the bus runs. */
export function peersOver(cast: () => ((host: string, cast: Cast) => Promise<void>) | undefined): Peers {
  return {
    tell: async (host, method, args) => {
      const send = cast();
      if (!send) throw new ShiftvolError('SV_BUS', `Cannot tell host "${host}": this agent is on no bus`);
      await send(host, { namespace: NAMESPACE, version: VERSION, method, args });
    },
  };
}

/** Anybody on the bus may call them: nothing is believed that is not looked at. */
export function peerEndpoint({ transfer, departures }: Transfers): RpcEndpoint {
  const methods = {
    receive_first_pass: async (args: RpcArgs, { signal }: RpcCall) =>
      await transfer.receiveAhead({ ref: textOf(args, 'instance', INSTANCE) }, textOf(args, 'told', ANY), signal),
    forget_first_pass: async (args: RpcArgs) => await transfer.forget(textOf(args, 'attachment', ATTACHMENT)),
    instance_leaves: async (args: RpcArgs) => departures.hear(args),
  } as const satisfies Record<PeerMethod, RpcMethod>;
  const quick = new Set<PeerMethod>(['instance_leaves']);
  return { namespace: NAMESPACE, version: VERSION, methods: new Map(Object.entries(methods)), quick };
}

const INSTANCE = /^[\w-]{1,255}$/;
const ATTACHMENT = /^[0-9a-f]{16}$/;
const ANY = /^[\s\S]{1,4096}$/;

/** @throws SV_MESSAGE; no value is in the text */
function textOf(args: RpcArgs, name: string, shape: RegExp): string {
  const { [name]: text } = args;
  if (typeof text === 'string' && shape.test(text)) return text;
  throw new ShiftvolError('SV_MESSAGE', `Cannot take what another agent tells: "${name}" has another shape`);
}
