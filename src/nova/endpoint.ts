/** The methods of Nova's driver, for the RPC server. What they do is loaded with the first call. */
import type { RpcArgs, RpcCall, RpcEndpoint, RpcMethod } from '../bus/rpc/endpoint.ts';
import { explain } from '../errors.ts';
import { notImplemented, type Subject, toRemote } from './errors.ts';
import type { Methods } from './methods.ts';
import type { Nova } from './ports.ts';
import { type DriverMethod, SUPPORT, type SupportedMethod } from './support.ts';

/** Of the contract in deploy/nova/README.md. */
const VERSION = '1.0';

export function novaEndpoint(nova: Nova): RpcEndpoint {
  let loaded: Promise<Methods> | undefined;
  const load = () => {
    loaded ??= import('./methods.ts').then(({ makeMethods }) => makeMethods(nova));
    return loaded;
  };
  const names = Object.keys(SUPPORT) as DriverMethod[]; // Object.keys forgets the literal type
  return {
    version: VERSION,
    methods: new Map(names.map(name => [name, methodOf(nova, name, load)])),
    quick: new Set(names.filter(isQuestion)),
  };
}

function methodOf(nova: Nova, name: DriverMethod, load: () => Promise<Methods>): RpcMethod {
  if (!isSupported(name)) {
    const refuse = notImplemented(name, SUPPORT[name].note);
    return async () => {
      throw refuse;
    };
  }
  return async (args, call) => {
    const subject = subjectOf(name, args);
    const facts = factsOf(subject, call);
    const began = performance.now();
    const ms = () => Math.round((performance.now() - began) * 10) / 10;
    try {
      const methods = await load();
      const answer = await methods.call(name, args, call);
      // Nova asks every minute for each instance and for the host.
      nova.log[isQuestion(name) ? 'debug' : 'info'](name, { ...facts, ms: ms() });
      return answer ?? null;
    } catch (error) {
      const remote = toRemote(error, subject);
      nova.log.warn(`${name} failed: ${explain(error)}`, { ...facts, ms: ms(), raises: remote.className });
      throw remote;
    }
  };
}

function isQuestion(name: string): boolean {
  return name.startsWith('get_') || name.startsWith('list_') || name === 'instance_on_disk';
}

function isSupported(name: DriverMethod): name is SupportedMethod {
  return SUPPORT[name].support !== 'not';
}

function factsOf({ instance, volume }: Subject, { requestId, globalRequestId }: RpcCall): object {
  return {
    ...(requestId === undefined ? {} : { request_id: requestId }),
    ...(globalRequestId === undefined ? {} : { global_request_id: globalRequestId }),
    ...(instance === undefined ? {} : { instance }),
    ...(volume === undefined ? {} : { volume }),
  };
}

/** Looked for in what has not been parsed: an error about its shape has to name its instance too. */
function subjectOf(method: SupportedMethod, args: RpcArgs): Subject {
  const instance = textAt(args, 'instance', 'uuid');
  const volume = textAt(args, 'connection_info', 'serial') ?? textAt(args, 'new_connection_info', 'serial');
  const image = textAt(args, 'image_meta', 'id') ?? textAt(args, 'image_id');
  const device = textAt(args, 'mountpoint');
  return {
    method,
    ...(instance === undefined ? {} : { instance }),
    ...(volume === undefined ? {} : { volume }),
    ...(image === undefined ? {} : { image }),
    ...(device === undefined ? {} : { device }),
  };
}

function textAt(value: unknown, ...path: readonly string[]): string | undefined {
  const [key, ...rest] = path;
  if (key === undefined) return typeof value === 'string' && value.length <= 255 ? value : undefined;
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  return textAt(Reflect.get(value, key), ...rest);
}
