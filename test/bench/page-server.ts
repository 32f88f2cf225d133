/**
 * A page over a real journal, as a process of its own so that its memory can be read: `node page-server.ts DIR COUNT`, told over IPC
 * what to do. `'url'`, `'ticks'` (milliseconds of the last look at each section), `'change'` (one attachment, as a command would), `'collect'`, `'cpu'` (milliseconds so far).
 */
import type { AttachmentId, InstanceKey, Plan } from '../../src/engine/model.ts';
import { listen } from '../../src/http/listener.ts';
import { listView, viewOf } from '../../src/http/view.ts';
import { makePage } from '../../src/page/page.ts';
import { newToken, Token } from '../../src/page/token.ts';
import { Store } from '../../src/store/journal.ts';
import { DemoHost } from '../rig/page-demo.ts';

const [dir = '', count = '4000'] = process.argv.slice(2);
const demo = new DemoHost(Number(count));
using store = new Store({ stateDir: dir, lockTimeoutMs: 1000, outbox: false });
for (const view of demo.views) {
  store.begin(planOf(view), {});
  settle(view.id);
}
let changed: (group?: string) => void = () => undefined;
using page = makePage({
  source: {
    host: demo.host,
    deadLetters: demo.deadLetters,
    attachments: async groups =>
      groups === 'all' ? listView(store.list()) : [...groups].flatMap(g => store.list(g as InstanceKey).map(viewOf)),
    runs: () => demo.runs(),
    claims: () => demo.claims(),
    templates: () => demo.templates(),
    watch(listener) {
      changed = listener;
      return { [Symbol.dispose]: () => undefined };
    },
  },
  token: new Token(newToken()),
  onError: (_section, error) => console.error(error),
});
await using listener = await listen({ address: '127.0.0.1:0', routes: page.routes });

const { promise: over, resolve: end } = Promise.withResolvers<void>();
let changes = 0;
process.on('disconnect', () => end());
process.on('message', what => {
  if (what === 'url') process.send?.(listener.url);
  if (what === 'cpu') {
    const { user, system } = process.cpuUsage();
    process.send?.((user + system) / 1000);
  }
  if (what === 'ticks') process.send?.(Object.fromEntries(page.feed.ticks));
  if (what === 'collect') {
    // As the agent does when it is quiet.
    globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    process.send?.(true);
  }
  if (what !== 'change') return;
  const view = demo.views[changes++ % demo.views.length];
  if (!view) return;
  settle(view.id);
  changed(view.instance);
  process.send?.(changes);
});
process.send?.('ready');
await over;

function settle(id: string): void {
  const at = new Date().toISOString();
  store.settle(id as AttachmentId, { state: 'attached', device: '/dev/loop7', fsType: 'ext4', attachedAt: at }, {});
}

function planOf(view: DemoHost['views'][number]): Plan {
  const map = view.extents;
  return {
    id: view.id as AttachmentId,
    role: view.role,
    instance: view.instance as InstanceKey,
    ref: { ref: view.instance },
    runtime: 'lxd',
    target: view.target,
    source: view.source,
    readOnly: view.readOnly,
    ...(view.volumeId !== undefined && { volumeId: view.volumeId }),
    snapshotKept: false,
    image: { kind: 'file', path: view.image },
    fsType: 'ext4',
    idBase: 0,
    idmap: map,
    instanceMap: map,
    mountPath: view.hostPath,
    deviceName: `shiftvol-${view.id}`,
    handoff: 'device',
  };
}
