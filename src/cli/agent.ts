import type { Handler } from '../bus/intake.ts';
import type { BusService } from '../bus/service.ts';
import { rpcUrl, tellUrl } from '../bus/urls.ts';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { leftoverText } from '../engine/recover.ts';
import { explain } from '../errors.ts';
import { listenOnSocket } from '../http/agent-socket.ts';
import { createLog, type Log, logSteps } from '../log/log.ts';
import { cleanShares } from '../storage/connect/shares.ts';
import { cleanTemplates } from '../storage/import/staging.ts';
import { layout } from '../storage/layout.ts';
import { assemble, type Host } from './assemble.ts';
import type { GlobalOptions } from './command.ts';
import { socketPath } from './engine-client.ts';
import { giveBackWhenQuiet } from './memory.ts';
import type { NovaParts } from './nova.ts';

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
  using _steps = { [Symbol.dispose]: logSteps(log) };
  const { interrupted } = host.store;
  if (interrupted > 0)
    log.info('requests were under way when the last run ended; asked again they are done', { interrupted });
  await cleanTemplates(layout(config.poolDir), work.signal);
  await recoverNow(host, log, work.signal);
  await cleanShares(config.runDir);
  void host.warm(work.signal);
  using nova = config.nova.enabled ? (await import('./nova.ts')).makeNova(config, host, log) : undefined;
  await using bus = useBus ? await startBus(config, host, log, work.signal, nova) : undefined;
  await using _socket = await listenOnSocket(
    socketPath(config.runDir),
    host.engine,
    () => ({ host: config.host, pid: process.pid, bus: bus?.status ?? null }),
    work.signal,
  );
  using _memory = giveBackWhenQuiet();
  using _timer = retryUnfinished(host, log, work.signal);
  log.info('ready', { host: config.host, state_dir: config.stateDir, bus: useBus });
  log.info(`stopping: ${await told}`);
  // What is under way is ended, not cut: disposing waits for the bus's handlers and the socket's requests, in that order.
}

/** A removal that waited for somebody else to let go, an undo that failed: tried again now and then. */
function retryUnfinished(host: Host, log: Log, signal: AbortSignal): Disposable {
  const timer = setInterval(() => {
    const open = host.engine.list().some(({ status }) => status.state === 'detaching' || status.state === 'undoing');
    if (open) recoverNow(host, log, signal).catch(error => log.error(`recover: ${explain(error)}`));
  }, RETRY_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
const RETRY_MS = 30_000;

async function recoverNow(host: Host, log: Log, signal: AbortSignal): Promise<void> {
  const { attachments, tasks, leftovers } = await host.engine.recover({ dryRun: false, signal });
  for (const { task, did, error, ...facts } of tasks) {
    if (error) log.warn(`recover: ${task}: ${error.message}`, facts);
    else log.info(`recover: ${task} ${did}`, facts);
  }
  for (const { attachment, instance, target, was, did, error } of attachments) {
    const facts = { instance, attachment, target, was };
    if (error) log.warn(`recover left it: ${error.message}`, facts);
    else log.info(`recover: ${did}`, facts);
  }
  for (const leftover of leftovers) log.warn(leftoverText(leftover));
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
