/** A host that is not there, for the page's picture and for its measurements: as many attachments as wanted, of a cloud that could be. */
import type { AttachmentEvent, AttachmentState, Source } from '../../src/engine/model.ts';
import type { Run } from '../../src/engine/recent-runs.ts';
import type { AttachmentView } from '../../src/http/view.ts';
import { parseIdmap } from '../../src/idmap/parse.ts';
import type { DeadLetterFacts } from '../../src/page/dead-letters.ts';
import type { Claim } from '../../src/page/id-space.ts';
import type { TemplateRow } from '../../src/page/rows.ts';
import type { PageSource } from '../../src/page/source.ts';

const FIRST_ID = 1_000_000;
const RANGE = 65_536;
const GIB = 2 ** 30;
const SERVICES = ['web', 'api', 'db', 'cache', 'build', 'mail', 'queue', 'proxy'];
const TARGETS = ['/srv/data', '/var/lib/app', '/mnt/uploads', '/var/cache/build', '/home'];

export class DemoHost implements PageSource {
  readonly host = 'compute-07';
  readonly views: AttachmentView[];
  readonly runList: Run[];
  readonly letters: DeadLetterFacts[];
  readonly acted: string[] = [];
  readonly extraClaims: Claim[] = [];
  /** How often it was asked. */
  asked = 0;
  readonly #listeners = new Set<(instance?: string) => void>();
  readonly #now: number;

  constructor(count: number, now = Date.now()) {
    this.#now = now;
    this.views = Array.from({ length: count }, (_, n) => this.#view(n));
    this.runList = Array.from({ length: Math.min(count, 60) }, (_, n) => this.#run(n));
    this.letters = [
      this.#letter(
        '3f2a90bc11d0',
        'SV_VOLUME_NOT_FOUND',
        'Cannot find the device "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_364effaf": there is none',
        'instance.volume_attach.end',
        140,
      ),
      this.#letter(
        '90bc5e1d7a42',
        'SV_MESSAGE',
        'Cannot read the message: "nova_object.data" is missing, an object is accepted',
        'instance.create.start',
        3600,
      ),
    ];
  }

  get watched(): boolean {
    return this.#listeners.size > 0;
  }

  change(n: number, more: Partial<AttachmentView>): void {
    const before = this.views[n];
    if (!before) throw new Error(`there is no attachment ${n}`);
    this.views[n] = { ...before, ...more };
    for (const listener of this.#listeners) listener(before.instance);
  }

  remove(n: number): void {
    const [gone] = this.views.splice(n, 1);
    for (const listener of this.#listeners) listener(gone?.instance);
  }

  async attachments(groups: ReadonlySet<string> | 'all'): Promise<readonly AttachmentView[]> {
    this.asked++;
    return groups === 'all' ? this.views : this.views.filter(view => groups.has(view.instance));
  }

  async runs(): Promise<readonly Run[]> {
    return this.runList;
  }

  async claims(): Promise<readonly Claim[]> {
    const instances = [...new Set(this.views.map(view => view.instance))];
    const both = (claim: Omit<Claim, 'kind'>): Claim[] => [
      { kind: 'uid', ...claim },
      { kind: 'gid', ...claim },
    ];
    return [
      ...both({ lane: 'subid', start: FIRST_ID, count: 1_000_000_000, owner: 'root' }),
      ...both({ lane: 'subid', start: FIRST_ID, count: 1_000_000_000, owner: 'shiftvol' }),
      ...instances.flatMap((instance, n) => {
        const range = { start: FIRST_ID + n * RANGE, count: RANGE };
        return [
          ...both({ lane: 'ours', ...range, owner: `shiftvol ${instance}` }),
          ...both({ lane: 'runtime', ...range, owner: `lxd container "${instance}"` }),
          ...(n % 5 === 4
            ? []
            : both({ lane: 'live', ...range, owner: `user:[${4_026_532_000 + n}] (pid ${2000 + n * 7}, systemd)` })),
        ];
      }),
      ...this.extraClaims,
    ];
  }

  async templates(): Promise<readonly TemplateRow[]> {
    const template = (
      name: string,
      fsType: string,
      size: number,
      used: number,
      count: number,
      own: number,
    ): TemplateRow => ({
      name,
      fsType,
      sizeBytes: size * GIB,
      idBase: name === 'debian-12' ? 100_000 : 0,
      createdAt: new Date(this.#now - used * 9e7).toISOString(),
      image: { sharedBytes: used * GIB * 0.93, exclusiveBytes: used * GIB * 0.07 },
      snapshots: { count, measured: count, sharedBytes: used * GIB * count, exclusiveBytes: own * GIB },
    });
    return [
      template('build-tools', 'xfs', 12, 6.4, 9, 22.8),
      template('debian-12', 'ext4', 2, 0.9, 31, 4.1),
      template('web-root', 'ext4', 4, 2.2, 14, 1.3),
    ];
  }

  readonly deadLetters = {
    list: async () => this.letters,
    replay: async (ids: readonly string[]) => this.#act('replay', ids),
    drop: async (ids: readonly string[]) => this.#act('drop', ids),
  };

  watch(changed: (instance?: string) => void): Disposable {
    this.#listeners.add(changed);
    return { [Symbol.dispose]: () => void this.#listeners.delete(changed) };
  }

  #act(action: string, ids: readonly string[]) {
    for (const id of ids) {
      this.acted.push(`${action} ${id}`);
      const at = this.letters.findIndex(letter => letter.id.startsWith(id));
      if (at >= 0) this.letters.splice(at, 1);
    }
    return { done: ids, kept: [] };
  }

  #view(n: number): AttachmentView {
    const instance = this.#instance(n);
    const state: AttachmentState['state'] =
      n % 23 === 11 ? 'detached' : n % 37 === 5 ? 'undoing' : n % 41 === 17 ? 'attaching' : 'attached';
    const at = new Date(this.#now - (n * 7919 + 97) * 1000).toISOString();
    const map = `b:0:${FIRST_ID + Math.floor(n / 2) * RANGE}:${RANGE}`;
    const volumeId = `${(0x364e_ffaf + n * 7_919_123).toString(16).padStart(8, '0').slice(-8)}-0f5c-4d34-8f0b-7a1f7d6c5b21`;
    const source: Source =
      n % 3 === 0
        ? {
            kind: 'template',
            template: ['web-root', 'debian-12', 'build-tools'][n % 9 === 0 ? 1 : (n / 3) % 3] ?? 'web-root',
          }
        : { kind: 'device', path: `/dev/disk/by-id/scsi-${volumeId}` };
    return {
      id: (0xa0c1_6f63 + n * 104_729).toString(16).padStart(16, '0'),
      instance,
      target: n % 2 === 0 ? '/' : (TARGETS[n % TARGETS.length] ?? '/mnt'),
      role: n % 2 === 0 ? 'root' : 'volume',
      source: n % 2 === 0 ? { kind: 'template', template: n % 8 === 0 ? 'build-tools' : 'debian-12' } : source,
      state,
      readOnly: n % 11 === 3,
      ...(n % 2 === 1 && source.kind === 'device' && { volumeId }),
      ...(state === 'attached' && { device: `/dev/loop${n}` }),
      fsType: n % 8 === 0 ? 'xfs' : 'ext4',
      hostPath: '/run/shiftvol/secret',
      image: '/var/lib/shiftvol/pool/image',
      extents: parseIdmap(map),
      ...(state === 'undoing' && {
        error: {
          code: 'SV_BUSY' as const,
          message: `Cannot undo step "mount" of attachment: "postgres" (pid 4182) holds /srv/data`,
          remedy: 'mend what it says, then run "shiftvol recover"',
        },
      }),
      createdAt: at,
      updatedAt: at,
    };
  }

  #instance(n: number): string {
    const which = Math.floor(n / 2);
    return `${SERVICES[which % SERVICES.length]}-${Math.floor(which / SERVICES.length) + 1}`;
  }

  #run(n: number): Run {
    const view = this.views[n];
    const isRemoval = n % 4 === 3;
    const failed = view?.state === 'undoing';
    const steps = isRemoval
      ? ([
          ['leave', 1.9],
          ['undo handoff', 41.7 + n],
          ['undo mount', 19.4],
          ['undo device', 0.35],
        ] as const)
      : ([
          ['reserve', 0.8],
          ['snapshot', 0.85 + n / 30],
          ['device', 3.1],
          ['mount', 14.6 + (n % 7)],
          ['handoff', 31.1 + (n % 13)],
        ] as const);
    let at = 1.2;
    const timed = steps.map(([step, ms]) => {
      const one = { step, startMs: at, ms };
      at += ms + 0.4;
      return one;
    });
    const action: AttachmentEvent['action'] = isRemoval ? 'detach' : view?.role === 'root' ? 'spawn' : 'attach';
    return {
      id: n + 1,
      attachment: view?.id ?? '',
      instance: view?.instance ?? '',
      action,
      at: new Date(this.#now - (60 - n) * 43_000).toISOString(),
      state: failed ? 'failed' : 'done',
      durationMs: Math.round(at * 1000) / 1000,
      steps: failed
        ? timed.map((step, i) =>
            i === timed.length - 1 ? { ...step, failed: 'SV_BUSY: a process holds /srv/data' } : step,
          )
        : timed,
      ...(failed && view?.error && { error: view.error }),
    };
  }

  #letter(id: string, code: string, reason: string, event: string, secondsAgo: number): DeadLetterFacts {
    return {
      id,
      at: new Date(this.#now - secondsAgo * 1000).toISOString(),
      reason,
      code,
      host: this.host,
      queue: `shiftvol.${this.host}`,
      event,
      ids: { uuid: '8c7d3f0e-5f2b-4a91-9d35-4be2f0d4c1aa' },
      bytes: 2417,
      broker: 'rabbit-1/',
    };
  }
}
