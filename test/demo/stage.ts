/** Everything that the demo plays on, private, below one directory of its own. */
import { chmodSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Lxd, startLxd } from '../rig/lxd.ts';
import { type Rabbit, startRabbit } from '../rig/rabbit.ts';
import { shiftvol } from './agent.ts';
import type { Ids } from './nova.ts';
import type { Show } from './show.ts';

/** On a disk, also where /tmp is memory. */
const BASE = '/var/tmp';
const POOL_SIZE = '8G';

export const TEMPLATE = 'web';
export const TARGET = '/mnt/data';
export const IDS: Ids = {
  instance: '8c7d3f0e-5f2b-4a91-9d35-4be2f0d4c1aa',
  volume: '364effaf-0f5c-4d34-8f0b-7a1f7d6c5b21',
  host: 'demo-host',
  name: 'web-1',
};

export type Stage = {
  readonly work: string;
  readonly config: string;
  readonly runDir: string;
  readonly poolDir: string;
  readonly agentLog: string;
  readonly rabbit: Rabbit;
  readonly lxd: Lxd;
};

export function makeWork(): string {
  const work = mkdtempSync(join(BASE, 'shiftvol-demo-'));
  chmodSync(work, 0o711); // containers' own users walk through it to their root file system
  return work;
}

/** What was begun goes onto `scope`, also when it fails half way. */
export async function setUp(
  show: Show,
  work: string,
  scope: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<Stage> {
  process.env['TMPDIR'] = work; // whatever the rig makes is then below it
  const timed = async <T>(making: Promise<T>, text: (made: T) => string): Promise<T> => {
    const began = performance.now();
    const made = await making;
    show.done(text(made), performance.now() - began);
    return made;
  };
  const making = [
    timed(startRabbit(), r => `a RabbitMQ of our own, on port ${r.port}`).then(r => scope.use(r)),
    timed(startLxd({ dir: join(work, 'lxd') }), l => `an ${l.runtime.name} of our own, in ${l.dir}`).then(l =>
      scope.use(l),
    ),
  ] as const;
  await Promise.allSettled(making); // whichever fails, the other one is to be ended
  const [rabbit, lxd] = [await making[0], await making[1]];
  signal.throwIfAborted();

  const stateDir = join(work, 'state');
  const runDir = join(work, 'run');
  mkdirSync(stateDir, { mode: 0o700 });
  const config = join(work, 'plugin.yaml');
  writeFileSync(config, configuration({ stateDir, runDir, url: rabbit.url, socket: lxd.socketPath }), { mode: 0o600 });
  await timed(
    shiftvol(config, ['pool', 'create', '--size', POOL_SIZE], signal),
    () => `pool: an XFS in a file of ${POOL_SIZE}, sparse, mounted`,
  );
  return { work, config, runDir, poolDir: join(stateDir, 'pool'), agentLog: join(work, 'agent.log'), rabbit, lxd };
}

type Places = { readonly stateDir: string; readonly runDir: string; readonly url: string; readonly socket: string };

function configuration({ stateDir, runDir, url, socket }: Places): string {
  return `host: ${IDS.host}
state_dir: ${stateDir}
run_dir: ${runDir}
runtimes:
  lxd:
    socket: ${socket}
bus:
  listen: ["${url}"]
  rebind_ms: 200
  exchanges:
    - exchange: nova
      topics: [versioned_notifications]
bindings:
  volumes:
    - volume: ${IDS.volume}
      template: ${TEMPLATE}
      target: ${TARGET}
`;
}
