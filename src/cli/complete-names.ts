/** Names that there are just now, for completion: quickly or not at all, and never by taking anything from one who works. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import type { AttachmentView } from '../http/view.ts';
import { type Asked, type Candidate, globalsOf } from './complete.ts';

/** A person waits. */
const PATIENCE_MS = 1000;

/** Of what a command calls `what`: `instance`, `target`, `attachment`, `template`, `name` … Nothing where that cannot be said. */
export async function names(what: string, asked: Asked): Promise<readonly Candidate[]> {
  try {
    return await find(what, asked, loadConfig(globalsOf(asked.options)));
  } catch {
    // Whatever is the matter (no rights, no configuration, a journal in use): a Tab key is no place to tell of it.
    return [];
  }
}

async function find(what: string, asked: Asked, config: Config): Promise<readonly Candidate[]> {
  const parent = asked.command.parent?.name();
  switch (what) {
    case 'instance':
      return await instances(asked, config);
    case 'target':
      return (await attachments(config))
        .filter(({ instance }) => instance === asked.given[0])
        .map(({ target, state }) => ({ word: target, about: state }));
    case 'attachment':
    case 'which':
      return places(await attachments(config));
    case 'template':
      return templates(config);
    case 'volume':
      return asked.options.has('snapshot') ? templates(config).map(({ word }) => ({ word: `${word}:/` })) : [];
    case 'name':
      if (parent === 'template' && asked.command.name() !== 'import') return templates(config);
      if (parent === 'snapshot' && asked.command.name() === 'create') return [];
      return parent === 'snapshot' || asked.command.name() === 'export' ? await snapshots(config, asked.given[0]) : [];
    default:
      return [];
  }
}

/** INSTANCE:TARGET, which people write, and the id. */
const places = (all: readonly AttachmentView[]): readonly Candidate[] =>
  all.flatMap(({ id, instance, target, state }) => [
    { word: `${instance}:${target}`, about: state },
    { word: id, about: `${instance}:${target}` },
  ]);

/** The agent's, else the journal's: one that somebody works on is left alone. */
async function attachments({ runDir, stateDir }: Config): Promise<readonly AttachmentView[]> {
  const { callAgent } = await import('../http/agent-client.ts');
  const { socketPath } = await import('./engine-client.ts');
  const limit = { signal: AbortSignal.timeout(PATIENCE_MS) };
  const answered = await callAgent(socketPath(runDir), { command: 'list' }, limit);
  if (answered) return answered.result as readonly AttachmentView[]; // of our own agent
  if (!entries(stateDir).includes('journal.db')) return [];
  const [{ Store }, { listView }] = await Promise.all([import('../store/journal.ts'), import('../http/view.ts')]);
  using store = new Store({ stateDir, lockTimeoutMs: 0, outbox: false });
  return listView(store.list());
}

/** Those that have something of ours; where something can come to one, the runtime's too. */
async function instances(asked: Asked, config: Config): Promise<readonly Candidate[]> {
  const ours = (await attachments(config)).map(({ instance }) => instance);
  const open = ['attach', 'spawn', 'alloc'].includes(asked.command.name());
  const theirs = open ? await runtimeInstances(config, asked.options.get('project')) : [];
  return [...new Set([...ours, ...theirs])].toSorted().map(word => ({ word }));
}

/** By hand: the client for everything else takes longer to load than this takes. */
async function runtimeInstances({ runtimes }: Config, project = runtimes.lxd.project): Promise<readonly string[]> {
  const [{ get }, { findSocket }] = await Promise.all([import('node:http'), import('../container/lxd/socket.ts')]);
  const { socket } = runtimes.lxd;
  const socketPath = await findSocket(socket === null ? {} : { configured: socket });
  const path = `/1.0/instances?project=${encodeURIComponent(project)}`;
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  get({ socketPath, path, host: 'lxd', signal: AbortSignal.timeout(PATIENCE_MS) }, response => {
    let text = '';
    response.setEncoding('utf8').on('data', chunk => {
      text += chunk;
    });
    response.on('end', () => resolve(text)).on('error', reject);
  }).on('error', reject);
  const { metadata }: { metadata?: unknown } = JSON.parse(await promise);
  if (!Array.isArray(metadata)) return [];
  return metadata.map(url => /^\/1\.0\/instances\/([^/?]+)/.exec(String(url))?.[1]).filter(name => name !== undefined);
}

const templates = ({ poolDir }: Config): readonly Candidate[] =>
  entries(join(poolDir, 'templates')).map(word => ({ word }));

async function snapshots(config: Config, place: string | undefined): Promise<readonly Candidate[]> {
  const of = (await attachments(config)).find(
    ({ id, instance, target }) => place === id || place === `${instance}:${target}`,
  );
  return of ? entries(join(config.poolDir, 'saved', of.id)).map(word => ({ word })) : [];
}

/** Visible ones; none where there is no such directory. */
function entries(directory: string): readonly string[] {
  try {
    return readdirSync(directory).filter(name => !name.startsWith('.'));
  } catch {
    return [];
  }
}
