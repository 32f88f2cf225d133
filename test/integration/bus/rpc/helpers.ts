import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { RemoteError, type RpcArgs, type RpcCall, type RpcEndpoint } from '../../../../src/bus/rpc/endpoint.ts';
import { healthEndpoints } from '../../../../src/bus/rpc/health.ts';
import { BusService } from '../../../../src/bus/service.ts';
import { type Config, schema } from '../../../../src/config/schema.ts';
import { ShiftvolError } from '../../../../src/errors.ts';
import { type Line, MemoryOutbox } from '../helpers.ts';

/** As in production, in a process whose only bus is RPC. */
export function rpcConfig(url: string, rpc: object = {}, more: { host?: string; bus?: object } = {}): Config {
  const host = more.host ?? 'node1';
  const bus = { reconnect: { min_ms: 100, max_ms: 1000 }, ...more.bus };
  const shape = schema({ host, bus, rpc: { url, ...rpc } }, []);
  return { ...shape, host, poolDir: '/none', file: 'test' };
}

export type Called = { readonly method: string; readonly args: RpcArgs; readonly call: RpcCall };

/** Methods 1.3: echo(value), slow(seconds), fail(kind), big(bytes), none(), wait() until there was go(); all are noted. */
export function testEndpoint(host: string, called: Called[]): RpcEndpoint {
  const methods: Record<string, (args: RpcArgs, call: RpcCall) => Promise<unknown>> = {
    echo: async ({ value }) => value,
    whoami: async () => host,
    none: async () => undefined,
    go: async () => undefined,
    wait: async () => {
      while (!called.some(({ method }) => method === 'go')) await sleep(10);
    },
    big: async ({ bytes }) => 'x'.repeat(Number(bytes)),
    slow: async ({ seconds }, { signal }) => {
      await sleep(Number(seconds) * 1000, undefined, { signal });
      return seconds;
    },
    fail: async ({ kind, id }) => {
      switch (kind) {
        case 'typed':
          throw new RemoteError('InstanceNotFound', `Instance ${id} could not be found.`, {
            kwargs: { instance_id: id },
          });
        case 'own':
          throw new RemoteError('InstanceNotFound', `Instance ${id} could not be found.`, {
            module: 'remote_errors',
            kwargs: { instance_id: id },
          });
        case 'shiftvol':
          throw new ShiftvolError('SV_BUSY', 'Cannot detach: a process uses it', { remedy: 'end it' });
        case 'arguments':
          throw new ShiftvolError('SV_MESSAGE', 'Cannot read the arguments: id is no uuid');
        case 'fault':
          throw new TypeError('secret detail of a fault of ours');
        case 'cyclic': {
          const cyclic: Record<string, unknown> = {};
          cyclic['self'] = cyclic;
          return cyclic;
        }
        default:
          throw new RemoteError('ValueError', 'no such kind', { module: 'builtins', kwargs: { big: 1n } });
      }
    },
    _private: async () => 'never',
  };
  const noted = Object.entries(methods).map(
    ([method, run]) =>
      [
        method,
        (args: RpcArgs, call: RpcCall) => {
          called.push({ method, args, call });
          return run(args, call);
        },
      ] as const,
  );
  return { version: '1.3', methods: new Map(noted) };
}

/** A server that is subscribed when this resolves. */
export async function serve(config: Config, signal?: AbortSignal) {
  const lines: Line[] = [];
  const called: Called[] = [];
  const at =
    (level: string) =>
    (message: string, fields: object = {}) =>
      lines.push({ level, message, fields });
  const log = { info: at('info'), warn: at('warn'), error: at('error'), debug: at('debug') };
  const endpoints = [...healthEndpoints(config.rpc.topic), testEndpoint(config.host, called)];
  const handle = async () => undefined;
  const bus = new BusService({ config, handle, outbox: new MemoryOutbox(), endpoints, log }).start(signal);
  const service = {
    bus,
    lines,
    called,
    get status() {
      const { rpc } = bus.status;
      if (!rpc) throw new Error('there is no RPC');
      return rpc;
    },
    async subscribed() {
      const deadline = performance.now() + 30_000;
      while (!service.status.subscribed) {
        if (performance.now() > deadline) throw new Error(`not subscribed: ${JSON.stringify(lines)}`);
        await sleep(10);
      }
    },
    [Symbol.asyncDispose]: () => bus[Symbol.asyncDispose](),
  };
  await service.subscribed();
  return service;
}

/** A request as a client writes it, for what no client does. */
export function requestBody(inner: object): Buffer {
  const whole = { args: {}, version: '1.0', _unique_id: randomUUID().replaceAll('-', ''), ...inner };
  return Buffer.from(JSON.stringify({ 'oslo.version': '2.0', 'oslo.message': JSON.stringify(whole) }));
}

/** The inner message of an envelope. */
export function innerOf(content: Buffer): Readonly<Record<string, unknown>> {
  return JSON.parse(JSON.parse(content.toString('utf8'))['oslo.message']);
}
