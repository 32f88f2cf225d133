/** The cloud's RabbitMQ: like the one of the tests (../rabbit.ts), but on fixed ports and left running. */
import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { listens, type Processes, type Program } from './processes.ts';
import { ADDRESS, type CloudSettings, paths, portOf } from './settings.ts';

const run = promisify(execFile);
const SCRIPTS = '/usr/lib/rabbitmq/bin';

function environment(settings: CloudSettings): Readonly<Record<string, string>> {
  const { etc, state, log } = paths(settings);
  const home = join(state, 'rabbitmq');
  mkdirSync(home, { recursive: true });
  return {
    HOME: home, // .erlang.cookie
    ERL_EPMD_PORT: String(portOf(settings, 'epmd')),
    ERL_EPMD_ADDRESS: ADDRESS,
    RABBITMQ_DIST_PORT: String(portOf(settings, 'distribution')),
    RABBITMQ_NODENAME: `shiftvol-cloud-${settings.portBase}@localhost`,
    RABBITMQ_MNESIA_BASE: join(home, 'data'),
    RABBITMQ_LOG_BASE: join(log, 'rabbitmq'),
    RABBITMQ_CONFIG_FILE: join(etc, 'rabbitmq/rabbitmq'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(etc, 'rabbitmq/enabled_plugins'),
    RABBITMQ_CONF_ENV_FILE: join(home, 'none.conf'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(home, 'none.config'),
    RABBITMQ_PID_FILE: join(home, 'pid'),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS:
      '+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}',
    // The script becomes the Erlang machine: its id is the broker's.
    detached: 'true',
  };
}

export async function startBroker(settings: CloudSettings, processes: Processes): Promise<void> {
  const env = environment(settings);
  const epmdPort = portOf(settings, 'epmd');
  const epmd: Program = {
    name: 'epmd',
    argv: ['epmd', '-port', String(epmdPort), '-address', ADDRESS, '-relaxed_command_check'],
  };
  processes.start(epmd);
  await processes.until('epmd', () => listens(epmdPort));
  processes.start({ name: 'rabbitmq', argv: [`${SCRIPTS}/rabbitmq-server`], env });
  await processes.until('rabbitmq', () => listens(portOf(settings, 'amqp')));
}

/** In order: what is durable is kept. `kill`: as a machine that loses power. */
export async function stopBroker(processes: Processes, options: { readonly kill?: boolean } = {}): Promise<void> {
  await processes.stop('rabbitmq', { timeoutMs: 30_000, ...options });
}

/** stdout of `rabbitmqctl`. */
export async function askBroker(settings: CloudSettings, ...args: readonly string[]): Promise<string> {
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', ...environment(settings) };
  const { stdout } = await run(`${SCRIPTS}/rabbitmqctl`, ['-q', ...args], { env, maxBuffer: 2 ** 26 });
  return stdout;
}
