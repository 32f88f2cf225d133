import type { Handler } from '../bus/intake.ts';
import type { RpcEndpoint } from '../bus/rpc/endpoint.ts';
import type { BusService } from '../bus/service.ts';
import { rpcUrl, tellUrl } from '../bus/urls.ts';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { listenOnSocket } from '../http/agent-socket.ts';
import type { Route } from '../http/listener.ts';
import { createLog, type Log, logOptions, logSteps } from '../log/log.ts';
import type { Health } from '../metrics/health.ts';
import { cleanShares } from '../storage/connect/shares.ts';
import { cleanTemplates } from '../storage/import/staging.ts';
import { layout } from '../storage/layout.ts';
import { traceSettings } from '../trace/settings.ts';
import { agentHealth, type Stage } from './agent-health.ts';
import { assemble, type Host } from './assemble.ts';
import type { GlobalOptions } from './command.ts';
import { socketPath } from './engine-client.ts';
import { giveBackWhenQuiet } from './memory.ts';
import { Recovery } from './recovery.ts';
import { supervisor } from './supervisor.ts';

/** Runs until SIGTERM or SIGINT. Every mount stays where it is when it ends. */
export async function runAgent(options: GlobalOptions, withBus: boolean): Promise<void> {
  const config = loadConfig(options);
  const log = createLog(logOptions(config.log, options));
  const tells = withBus && tellUrl(config) !== undefined;
  const useBus = tells || (withBus && rpcUrl(config) !== undefined);
  const { promise: told, resolve: stop } = Promise.withResolvers<NodeJS.Signals>();
  process.once('SIGTERM', stop).once('SIGINT', stop);
  const work = new AbortController();

  await using host = await assemble(config, { outbox: tells, resident: true, log });
  await using _traces = await traced(config, tells, log);
  using _steps = logSteps(log);
  const { interrupted } = host.store;
  if (interrupted > 0)
    log.info('requests were under way when the last run ended; asked again they are done', { interrupted });
  const stage: Stage = { recovered: false, serving: false, stopping: false };
  let busNow: BusService | undefined;
  const health = agentHealth(host, stage, () => busNow);
  await using _monitor = await monitor(config, host, health, () => busNow, log);
  await cleanTemplates(layout(config.poolDir), work.signal);
  await using recovery = new Recovery(host.engine, log);
  if (await recovery.first()) await cleanShares(config.runDir);
  stage.recovered = true;
  void host.warm(work.signal);
  let cast: BusService['cast'] | undefined;
  await using nova = config.nova.enabled ? await makeNova(config, host, () => cast, log) : undefined;
  await using bus = useBus ? await startBus(config, host, log, work.signal, nova?.endpoints) : undefined;
  cast = bus && ((to, what) => bus.cast(to, what));
  busNow = bus;
  stage.serving = true;
  await using _socket = await listenOnSocket(
    socketPath(config.runDir),
    host.engine,
    async ready => ({
      host: config.host,
      pid: process.pid,
      bus: bus?.status ?? null,
      ...health.told(ready ? await health.ready() : undefined),
    }),
    work.signal,
    () => ({ host: config.host, pid: process.pid, bus: bus?.status ?? null, journal: host.store.census() }),
  );
  using _memory = giveBackWhenQuiet();
  using manager = await supervisor(log);
  manager.ready(`host ${config.host}`, () => health.alive());
  log.info('ready', { host: config.host, state_dir: config.stateDir, bus: useBus });
  log.info(`stopping: ${await told}`);
  manager.stopping();
  stage.stopping = true;
  health.forget();
  // What is under way is ended, not cut: disposing waits for the bus's handlers and the socket's requests, in that order.
}

/** The port for monitors and people, where one is configured. */
async function monitor(
  config: Config,
  host: Host,
  health: Health,
  bus: () => BusService | undefined,
  log: Log,
): Promise<AsyncDisposable | undefined> {
  if (config.http.listen === null) {
    if (config.http.page) log.warn('the page is shown nowhere: http.page is true, and http.listen is not set');
    return undefined;
  }
  const { monitorAgent } = await import('./monitor-agent.ts');
  await using parts = new AsyncDisposableStack();
  // What else is shown there stands here.
  const page = config.http.page
    ? parts.use((await import('./page.ts')).agentPage(config, host.engine, log))
    : undefined;
  const routes: readonly Route[] = page?.routes ?? [];
  parts.use(await monitorAgent({ config, host, health, bus, routes, log }));
  return parts.move();
}

/** Nothing of it is loaded where it is not asked for. */
async function traced({ trace, host }: Config, tells: boolean, log: Log): Promise<AsyncDisposable | undefined> {
  const settings = traceSettings(trace);
  if (settings === undefined) return undefined;
  const { startTracing } = await import('../trace/start.ts');
  return startTracing(settings, { host, tells, log });
}

/** What can be called on this host where Nova decides, and what other hosts fetch of it. */
async function makeNova(
  config: Config,
  host: Host,
  cast: () => BusService['cast'] | undefined,
  log: Log,
): Promise<AsyncDisposable & { readonly endpoints: readonly RpcEndpoint[] }> {
  const [{ openTransfers }, { peerEndpoint, peersOver }, { novaMethods }] = await Promise.all([
    import('./transfers.ts'),
    import('./peers.ts'),
    import('./nova.ts'),
  ]);
  const transfers = await openTransfers(config, host, peersOver(cast), log);
  const endpoints = [novaMethods(config, host, transfers, log), peerEndpoint(transfers)];
  return { endpoints, [Symbol.asyncDispose]: () => transfers[Symbol.asyncDispose]() };
}

async function startBus(
  config: Config,
  host: Host,
  log: Log,
  signal: AbortSignal,
  nova: readonly RpcEndpoint[] | undefined,
): Promise<BusService> {
  const { BusService } = await import('../bus/service.ts');
  const { healthEndpoints } = await import('../bus/rpc/health.ts');
  const handle: Handler = async (command, within, isFinal) => {
    // What notifications tell of, Nova's driver asks for itself.
    if (nova) return;
    await host.engine.execute(command, within, isFinal);
  };
  // What else can be called on this host stands here.
  const endpoints = [...healthEndpoints(config.rpc.topic), ...(nova ?? [])];
  return new BusService({ config, handle, outbox: host.store, endpoints, log }).start(signal);
}
