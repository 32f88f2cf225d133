import type { BusService } from '../bus/service.ts';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { listenOnSocket } from '../http/agent-socket.ts';
import { createLog, type Log, logSteps } from '../log/log.ts';
import { assemble, type Host } from './assemble.ts';
import type { GlobalOptions } from './command.ts';
import { socketPath } from './engine-client.ts';

/** Runs until SIGTERM or SIGINT. Every mount stays where it is when it ends. */
export async function runAgent(options: GlobalOptions, withBus: boolean): Promise<void> {
  const config = loadConfig(options);
  const log = createLog({ level: options.verbose ? 'debug' : 'info', json: options.json ?? false });
  const useBus = withBus && config.bus.listen.length > 0;
  const { promise: told, resolve: stop } = Promise.withResolvers<NodeJS.Signals>();
  process.once('SIGTERM', stop).once('SIGINT', stop);
  const work = new AbortController();

  await using host = await assemble(config, { outbox: useBus });
  using _steps = { [Symbol.dispose]: logSteps(log) };
  await recoverFirst(host, log, work.signal);
  await using bus = useBus ? await startBus(config, host, log, work.signal) : undefined;
  await using _socket = await listenOnSocket(
    socketPath(config.runDir),
    host.engine,
    () => ({ host: config.host, pid: process.pid, bus: bus?.health() ?? null }),
    work.signal,
  );
  log.info('ready', { host: config.host, state_dir: config.stateDir, bus: useBus });
  log.info(`stopping: ${await told}`);
  // What is under way is ended, not cut: disposing waits for the bus's handlers and the socket's requests, in that order.
}

async function recoverFirst(host: Host, log: Log, signal: AbortSignal): Promise<void> {
  const { attachments, leftovers, requests } = await host.engine.recover({ dryRun: false, signal });
  for (const { attachment, instance, target, was, did, error } of attachments) {
    const facts = { instance, attachment, target, was };
    if (error) log.warn(`recover left it: ${error.message}`, facts);
    else log.info(`recover: ${did}`, facts);
  }
  for (const { kind, what } of leftovers) log.warn(`not in the journal, left alone: ${kind} ${what}`);
  if (requests > 0)
    log.info('requests were under way when the last run ended; they are done when asked again', { requests });
}

async function startBus(config: Config, host: Host, log: Log, signal: AbortSignal): Promise<BusService> {
  const { BusService } = await import('../bus/service.ts');
  const service = new BusService({
    config,
    handle: async (command, within) => {
      await host.engine.execute(command, within);
    },
    outbox: host.store,
    log,
  });
  await service.start(signal);
  return service;
}
