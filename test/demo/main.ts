/**
 * The whole job, on real parts of our own: a notification of Nova's on RabbitMQ becomes a volume with the right owners inside a running
 * unprivileged container, and goes again. `npm run demo [-- --keep | --end | --json]`
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { emit } from '../rig/oslo/peers.ts';
import { ensurePackages, SetupError } from '../rig/setup.ts';
import {
  attachByNova,
  deleteByNova,
  detachByNova,
  FILES,
  makeTemplate,
  nothingLeft,
  type Scene,
  showOwners,
  startContainer,
  theOldWay,
  traces,
  writeInside,
} from './acts.ts';
import { startAgent } from './agent.ts';
import { openEar } from './ear.ts';
import { waitKept } from './keep.ts';
import { novaNote } from './nova.ts';
import { endAll, noteRunning } from './running.ts';
import { makeShow, type Show } from './show.ts';
import { IDS, makeWork, setUp } from './stage.ts';
import { remains, sweep } from './sweep.ts';

const HELP = `npm run demo [-- OPTION]
  --keep   leave it running, to play with
  --end    end what was kept running
  --json   an event a line`;

type Options = { readonly keep: boolean; readonly json: boolean };

async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      keep: { type: 'boolean', default: false },
      end: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return done(() => console.log(HELP));
  if (process.geteuid?.() !== 0) return await asRoot(argv);
  if (values.end) {
    await endAll(text => console.log(text));
    return 0;
  }
  // A session of its own: Ctrl-C then reaches the demo alone, not each of the programs that it runs and cleans up with; and what is
  // kept outlives this terminal.
  if (process.send === undefined) return await inOwnSession(argv);
  return await perform(values);
}

function done(action: () => void): number {
  action();
  return 0;
}

async function perform({ keep, json }: Options): Promise<number> {
  const began = performance.now();
  const show = makeShow({ json });
  const stop = new AbortController();
  const end = () => {
    if (!stop.signal.aborted) console.error('\n   ending: everything is taken away again');
    stop.abort();
  };
  // Also the second Ctrl-C: cleaning up half way would leave things behind. Disconnected: whoever started us is gone.
  process.on('SIGINT', end).on('SIGTERM', end).on('SIGHUP', end).on('disconnect', end);
  const goAlone = () => {
    process.off('disconnect', end);
    if (process.connected) process.disconnect();
  };
  const work = makeWork();
  try {
    show.title('shiftvol: from a message on the bus to a volume inside a running container');
    await using scope = new AsyncDisposableStack();
    scope.defer(() => sweep(work)); // the last thing: when all that works in it has ended
    scope.use(noteRunning(work));
    await play({ show, work, scope, signal: stop.signal }, keep ? goAlone : undefined);
  } catch (error) {
    if (error !== stop.signal.reason) throw error;
  } finally {
    goAlone();
  }
  const left = remains(work);
  if (left.length > 0) throw new Error(`Left over: ${left.join(', ')}`);
  show.done('agent, container, broker, pool, files: gone; nothing is left on this host', performance.now() - began);
  return stop.signal.aborted && !keep ? 128 + constants.signals.SIGINT : 0;
}

type Theatre = {
  readonly show: Show;
  readonly work: string;
  readonly scope: AsyncDisposableStack;
  readonly signal: AbortSignal;
};

/** `goAlone`: instead of the last acts everything is left standing, and nobody waits for this process any more. */
async function play({ show, work, scope, signal }: Theatre, goAlone: (() => void) | undefined): Promise<void> {
  show.act('The stage');
  ensurePackages('demo', { quiet: true });
  show.done('packages are there');
  const stage = await setUp(show, work, scope, signal);

  show.act(`A template with ${FILES.toLocaleString('en')} files`);
  await makeTemplate(show, stage, signal);

  show.act('A running container, and the agent');
  const base = await startContainer(show, stage);
  const ear = scope.use(await openEar(stage.rabbit.url, ['nova/versioned_notifications', 'shiftvol/notifications']));
  const scene: Scene = { show, stage, ear, signal };
  const starting = performance.now();
  scope.use(
    await startAgent(
      { config: stage.config, socket: `${stage.runDir}/agent.sock`, log: stage.agentLog, exchange: 'nova' },
      signal,
    ),
  );
  show.done('shiftvol serve: connected, its queue bound to Nova’s exchange', performance.now() - starting);
  await emit(stage.rabbit.url, [novaNote('instance-update', IDS, 'req-noise')]);
  await ear.until(h => h.event_type === 'instance.update', signal);
  const before = await traces(scene);

  show.act('Nova says: the volume is attached');
  const attached = await attachByNova(scene);

  show.act('Who owns the files');
  await showOwners(scene, attached);

  show.act('The container writes');
  await writeInside(scene, attached);

  show.act('The same job by chown');
  await theOldWay(scene, attached, base);

  if (goAlone) await waitKept(scene, goAlone);
  else {
    show.act('Nova says: detach, and then: the instance is deleted');
    await detachByNova(scene);
    await deleteByNova(scene);

    show.act('What is left');
    await nothingLeft(scene, before);
  }
}

/** By sudo, with the same Node and terminal. Signals go to both; this one only waits. */
async function asRoot(argv: readonly string[]): Promise<number> {
  const self = fileURLToPath(import.meta.url);
  console.error('The demo needs root (mounts, containers): asking sudo');
  return await follow(spawn('sudo', ['--', process.execPath, self, ...argv], { stdio: 'inherit' }), false).catch(() => {
    throw new SetupError('Cannot run the demo: not root, and no sudo. Run it as root');
  });
}

/** Ends when the child has ended, or says that it is on its own from now on. */
async function inOwnSession(argv: readonly string[]): Promise<number> {
  const self = fileURLToPath(import.meta.url);
  const stdio = ['ignore', 'inherit', 'inherit', 'ipc'] as const;
  return await follow(spawn(process.execPath, [self, ...argv], { stdio: [...stdio], detached: true }), true);
}

function follow(child: ReturnType<typeof spawn>, forward: boolean): Promise<number> {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      if (forward) child.kill(signal);
    });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', code => resolve(code ?? 1));
    child.once('message', () => {
      child.disconnect();
      child.unref();
      resolve(0);
    });
  });
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const usage = error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
  console.error(usage ? `${error.message}\n\n${HELP}` : error instanceof SetupError ? error.message : error);
  process.exitCode = usage ? 2 : 1;
}
