import type { Handler } from '../bus/intake.ts';
import type { BusService } from '../bus/service.ts';
import { rpcUrl, tellUrl } from '../bus/urls.ts';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { listenOnSocket } from '../http/agent-socket.ts';
import { createLog, type Log, logSteps } from '../log/log.ts';
import { cleanShares } from '../storage/connect/shares.ts';
import { cleanTemplates } from '../storage/import/staging.ts';
import { layout } from '../storage/layout.ts';
import { traceSettings } from '../trace/settings.ts';
import { assemble, type Host } from './assemble.ts';
import type { GlobalOptions } from './command.ts';
import { socketPath } from './engine-client.ts';
import { giveBackWhenQuiet } from './memory.ts';
import type { NovaParts } from './nova.ts';
import { Recovery } from './recovery.ts';
import { supervisor } from './supervisor.ts';

/** Runs until SIGTERM or SIGINT. Every mount stays where it is when it ends. */
export async function runAgent(options: GlobalOptions, withBus: boolean): Promise<void> {
  const config = loadConfig(options);
  const log = createLog({ level: options.verbose ? 'debug' : 'info', json: options.json ?? false });
  const tells = withBus && tellUrl(config) !== undefined;
  const useBus = tells || (withBus && rpcUrl(config) !== undefined);
  const { promise: told, resolve: stop } = Promise.withResolvers<NodeJS.Signals>();
  process.once('SIGTERM', stop).once('SIGINT', stop);
  const work = new AbortController();

  await using host = await assemble(config, { outbox: tells, resident: true, log });
  await using _traces = await traced(config, tells, log);
  using _steps = { [Symbol.dispose]: logSteps(log) };
  const { interrupted } = host.store;
  if (interrupted > 0)
    log.info('requests were under way when the last run ended; asked again they are done', { interrupted });
  await cleanTemplates(layout(config.poolDir), work.signal);
  await using recovery = new Recovery(host.engine, log);
  if (await recovery.first()) await cleanShares(config.runDir);
  void host.warm(work.signal);
  using nova = config.nova.enabled ? (await import('./nova.ts')).makeNova(config, host, log) : undefined;
  await using _transfers = config.nova.enabled
    ? await (await import('./transfers.ts')).listenForTransfers(config, host, log)
    : undefined;
  await using bus = useBus ? await startBus(config, host, log, work.signal, nova) : undefined;
  await using _socket = await listenOnSocket(
    socketPath(config.runDir),
    host.engine,
    () => ({ host: config.host, pid: process.pid, bus: bus?.status ?? null }),
    work.signal,
  );
  using _memory = giveBackWhenQuiet();
  using manager = await supervisor(log);
  manager.ready(`host ${config.host}`);
  log.info('ready', { host: config.host, state_dir: config.stateDir, bus: useBus });
  log.info(`stopping: ${await told}`);
  manager.stopping();
  // What is under way is ended, not cut: disposing waits for the bus's handlers and the socket's requests, in that order.
}

/** Nothing of it is loaded where it is not asked for. */
async function traced({ trace, host }: Config, tells: boolean, log: Log): Promise<AsyncDisposable | undefined> {
  const settings = traceSettings(trace);
  if (settings === undefined) return undefined;
  const { startTracing } = await import('../trace/start.ts');
  return startTracing(settings, { host, tells, log });
}

async function startBus(
  config: Config,
  host: Host,
  log: Log,
  signal: AbortSignal,
  nova: NovaParts | undefined,
): Promise<BusService> {
  const { BusService } = await import('../bus/service.ts');
  const { healthEndpoints } = await import('../bus/rpc/health.ts');
  const handle: Handler = async (command, within, isFinal) => {
    // What notifications tell of, Nova's driver asks for itself.
    if (nova) return;
    await host.engine.execute(command, within, isFinal);
  };
  // What else can be called on this host stands here.
  const endpoints = [...healthEndpoints(config.rpc.topic), ...(nova ? [nova.endpoint] : [])];
  return new BusService({ config, handle, outbox: host.store, endpoints, log }).start(signal);
}
