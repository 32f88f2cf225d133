/** A Prometheus of the tests' own: a directory and a port of its own on the loopback address, stopped by its process id. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './ports.ts';

const PROGRAM = '/usr/bin/prometheus';
const START_TIMEOUT_MS = 30_000;

export type Sample = { readonly metric: Readonly<Record<string, string>>; readonly value: number };
export type Prometheus = AsyncDisposable & {
  readonly url: string;
  /** What an instant query finds now. @throws where it cannot be read */
  query(expr: string): Promise<readonly Sample[]>;
};

export type PrometheusOptions = {
  /** `HOST:PORT` of what is scraped each second, by job. */
  readonly targets: Readonly<Record<string, string>>;
  /** Files of rules. */
  readonly rules?: readonly string[];
};

/** Ready to be asked. About a second. */
export async function startPrometheus({ targets, rules = [] }: PrometheusOptions): Promise<Prometheus> {
  if (!existsSync(PROGRAM)) throw new Error('prometheus is not installed: apt-get install prometheus');
  const dir = await mkdtemp(join(tmpdir(), 'shiftvol-prometheus-'));
  const port = await freePort();
  const config = {
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: rules,
    scrape_configs: Object.entries(targets).map(([job, target]) => ({
      job_name: job,
      static_configs: [{ targets: [target] }],
    })),
  };
  await writeFile(join(dir, 'prometheus.yml'), JSON.stringify(config));
  const child = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', PROGRAM, `--config.file=${dir}/prometheus.yml`, `--storage.tsdb.path=${dir}/data`],
      ...[`--web.listen-address=127.0.0.1:${port}`, '--log.level=warn'],
    ],
    { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  const ended = once(child, 'close');
  const url = `http://127.0.0.1:${port}`;
  const stop = async () => {
    child.kill('SIGKILL');
    await ended;
    await rm(dir, { recursive: true, force: true });
  };
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await isReady(url))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      await stop();
      throw new Error(`prometheus did not get ready: ${log}`);
    }
    await sleep(50);
  }
  return { url, query: expr => query(url, expr), [Symbol.asyncDispose]: stop };
}

async function isReady(url: string): Promise<boolean> {
  const answer = await fetch(`${url}/-/ready`).catch(() => undefined);
  return answer?.ok ?? false;
}

async function query(url: string, expr: string): Promise<readonly Sample[]> {
  const response = await fetch(`${url}/api/v1/query`, { method: 'POST', body: new URLSearchParams({ query: expr }) });
  const reply: { readonly status: string; readonly error?: string; readonly data?: Data } = JSON.parse(
    await response.text(),
  );
  if (reply.status !== 'success' || !reply.data) throw new Error(`cannot ask "${expr}": ${reply.error}`);
  return reply.data.result.map(({ metric, value: [, value] }) => ({ metric, value: Number(value) }));
}

type Data = {
  readonly result: readonly {
    readonly metric: Readonly<Record<string, string>>;
    readonly value: readonly [number, string];
  }[];
};
