/**
 * A RabbitMQ of the tests' own: its own directories, cookie, node name, ports and epmd, so that one that is there already is never
 * touched. It listens on the loopback address alone and is stopped by process id.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createConnection, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const SCRIPTS = '/usr/lib/rabbitmq/bin';
const START_TIMEOUT_MS = 90_000;
const STOP_TIMEOUT_MS = 30_000;

export type Rabbit = AsyncDisposable & {
  /** `rabbit://guest:guest@127.0.0.1:PORT/` */
  readonly url: string;
  readonly port: number;
  /** Where `tls` was asked for: it listens there as well. */
  readonly tlsPort: number;
  /** `http://guest:guest@127.0.0.1:PORT`, where `management` was asked for. */
  readonly managementUrl: string | undefined;
  /** Process id of the broker, while it runs. */
  readonly pid: number | undefined;
  /** In order; what is durable is kept. */
  stop(): Promise<void>;
  /** As a machine that loses power. */
  kill(): Promise<void>;
  /** On the same ports with the same data. */
  start(): Promise<void>;
};

/**
 * Starts a broker, ready for connections. About 5 s.
 * @throws where it did not come up in time; the text has the end of its log
 */
export async function startRabbit(
  options: { management?: boolean; tls?: { cert: string; key: string; ca: string } } = {},
): Promise<Rabbit> {
  if (!existsSync(`${SCRIPTS}/rabbitmq-server`))
    throw new Error('rabbitmq-server is not installed: apt-get install rabbitmq-server');
  const dir = await mkdtemp(join(tmpdir(), 'shiftvol-rabbit-'));
  const [port, epmdPort, distPort, managementPort, tlsPort] = await freePorts();
  const plugins = join(dir, 'enabled_plugins');
  const config = join(dir, 'rabbitmq.conf');
  await mkdir(join(dir, 'log'));
  await writeFile(plugins, options.management ? '[rabbitmq_management].' : '[].');
  await writeFile(config, configuration({ port, managementPort, tlsPort }, options));
  const env = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    LANG: 'C.UTF-8',
    HOME: dir, // .erlang.cookie
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    RABBITMQ_DIST_PORT: String(distPort),
    RABBITMQ_NODENAME: `shiftvol-test-${port}@localhost`,
    RABBITMQ_MNESIA_BASE: join(dir, 'data'),
    RABBITMQ_LOG_BASE: join(dir, 'log'),
    RABBITMQ_CONFIG_FILE: config,
    RABBITMQ_CONF_ENV_FILE: join(dir, 'none.conf'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(dir, 'none.config'),
    RABBITMQ_ENABLED_PLUGINS_FILE: plugins,
    RABBITMQ_PID_FILE: join(dir, 'pid'),
    // No busy waiting of schedulers: the machine is shared with what is measured.
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS:
      '+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}',
    // The script then becomes the Erlang machine instead of waiting for it, so that the child's id is the broker's.
    detached: 'true',
  };
  // With us, however we end: the kernel sees to it where no handler of ours can.
  const run = (command: string, args: readonly string[]) =>
    spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], { env, cwd: dir, stdio: 'ignore' });
  const epmd = run('epmd', ['-port', String(epmdPort), '-address', '127.0.0.1', '-relaxed_command_check']);
  let broker: ChildProcess | undefined;
  const children = () => [broker, epmd].filter(c => c !== undefined && c.exitCode === null && c.signalCode === null);
  const killAll = () => {
    for (const child of children()) child?.kill('SIGKILL');
  };
  process.once('exit', killAll);

  const start = async () => {
    if (broker) throw new Error('the broker runs already');
    broker = run(`${SCRIPTS}/rabbitmq-server`, []);
    await listening(port, broker, dir);
    if (options.management) await listening(managementPort, broker, dir);
    if (options.tls) await listening(tlsPort, broker, dir);
  };
  const end = async (signal: NodeJS.Signals) => {
    if (!broker) return;
    await ended(broker, signal);
    broker = undefined;
  };
  const dispose = async () => {
    // In order it takes a second, with management six, and nothing of it is kept.
    await end('SIGKILL');
    await ended(epmd, 'SIGTERM');
    process.removeListener('exit', killAll);
    await rm(dir, { recursive: true, force: true });
  };
  try {
    await listening(epmdPort, epmd, dir);
    await start();
  } catch (error) {
    killAll();
    await dispose();
    throw error;
  }
  return {
    url: `rabbit://guest:guest@127.0.0.1:${port}/`,
    port,
    tlsPort,
    managementUrl: options.management ? `http://guest:guest@127.0.0.1:${managementPort}` : undefined,
    get pid() {
      return broker?.pid;
    },
    start,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    [Symbol.asyncDispose]: dispose,
  };
}

function configuration(
  { port, managementPort, tlsPort }: Readonly<Record<'port' | 'managementPort' | 'tlsPort', number>>,
  options: Parameters<typeof startRabbit>[0],
): string {
  const tls = options?.tls;
  return [
    `listeners.tcp.1 = 127.0.0.1:${port}`,
    ...(tls
      ? [
          `listeners.ssl.1 = 127.0.0.1:${tlsPort}`,
          `ssl_options.cacertfile = ${tls.ca}`,
          `ssl_options.certfile = ${tls.cert}`,
          `ssl_options.keyfile = ${tls.key}`,
        ]
      : []),
    `management.tcp.ip = 127.0.0.1`,
    `management.tcp.port = ${managementPort}`,
    'disk_free_limit.absolute = 50MB',
    'log.file.level = warning',
  ]
    .filter(line => options?.management || !line.startsWith('management.'))
    .concat('')
    .join('\n');
}

/** Ports that were free just now, all different. */
async function freePorts(): Promise<[number, number, number, number, number]> {
  const servers = [createServer(), createServer(), createServer(), createServer(), createServer()] as const;
  const [a, b, c, d, e] = servers;
  const ports: [number, number, number, number, number] = [
    await bind(a),
    await bind(b),
    await bind(c),
    await bind(d),
    await bind(e),
  ];
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))));
  return ports;
}

function bind(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', () => {
      const address = server.address();
      if (address === null || typeof address === 'string') reject(new Error('no port'));
      else resolve(address.port);
    });
  });
}

async function listening(port: number, child: ChildProcess, dir: string): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < deadline) {
    if (child.exitCode !== null || child.signalCode !== null) break;
    if (await connects(port)) return;
    await sleep(50);
  }
  const log = await readFile(join(dir, 'log', `shiftvol-test-${port}@localhost.log`), 'utf8').catch(() => '(no log)');
  throw new Error(
    `Cannot start ${child.spawnfile} on port ${port}: exit ${child.exitCode ?? child.signalCode}\n${log.slice(-2000)}`,
  );
}

function connects(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = createConnection({ port, host: '127.0.0.1' });
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise<void>(resolve => child.once('exit', () => resolve()));
  child.kill(signal);
  const hard = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await exit;
  clearTimeout(hard);
}
