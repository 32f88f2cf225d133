/** What goes on while programs change: processes that write, notifications of Nova, a client of the socket that asks until it is done. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from '../../../src/engine/model.ts';
import { execute } from '../../e2e/ask.ts';
import { type BusWorld, uuidOf } from '../../e2e/bus-world.ts';
import { versioned } from '../../e2e/notes.ts';
import type { Lxd } from '../../rig/lxd.ts';
import { until } from '../bus/helpers.ts';

export const TARGETS = Array.from({ length: 10 }, (_, i) => `/mnt/${i}`);
/** Appends a number to a file of each of five volumes, five times a second, through descriptors that it opens once; says how it has ended. */
const WRITER = `
exec 3>>/mnt/$1/log 4>>/mnt/$2/log 5>>/mnt/$3/log 6>>/mnt/$4/log 7>>/mnt/$5/log
i=0
while [ ! -e /tmp/stop ]; do
  i=$((i + 1))
  for fd in 3 4 5 6 7; do echo $i >&$fd || { echo "failed at $i" >/tmp/ended$1; exit 1; }; done
  sleep 0.2
done
echo "$i" >/tmp/ended$1`;
const WRITERS = ['0 1 2 3 4', '5 6 7 8 9'] as const;

/** Two of them, for ten volumes. */
export async function startWriters(lxd: Lxd, name: string): Promise<void> {
  const each = WRITERS.map(args => `setsid sh /tmp/writer ${args} </dev/null >/dev/null 2>&1 &`);
  await lxd.sh(name, `cat >/tmp/writer <<'END'${WRITER}\nEND\n${each.join('\n')}`);
}

/** Ends them. Every number that was written is in every file, as a new look at the path shows. Returns the last ones. */
export async function stopWriters(lxd: Lxd, name: string): Promise<readonly number[]> {
  await lxd.sh(name, 'touch /tmp/stop; while ! cat /tmp/ended0 /tmp/ended5 2>/dev/null; do sleep 0.1; done');
  const last = (await lxd.sh(name, 'cat /tmp/ended0 /tmp/ended5')).split('\n').map(Number);
  for (const [i, target] of TARGETS.entries()) {
    const count = last[i < 5 ? 0 : 1] ?? Number.NaN;
    const expected = Array.from({ length: count }, (_, n) => String(n + 1)).join('\n');
    assert.equal(await lxd.sh(name, `cat ${target}/log`), expected, `${name}:${target}`);
  }
  return last;
}

/** Nova attaches a new volume to one instance after the other, and detaches each some time later. */
export class Notifications {
  readonly #bus: BusWorld;
  readonly #instances: readonly string[];
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  readonly #sent: string[] = [];

  constructor(bus: BusWorld, instances: readonly string[]) {
    this.#bus = bus;
    this.#instances = instances;
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    for (let n = 0; !this.#stop.signal.aborted; n++) {
      await this.#tell('attach', n);
      if (n >= 5) await this.#tell('detach', n - 5);
      await sleep(200, undefined, { signal: this.#stop.signal }).catch(() => undefined); // told to stop
    }
  }

  async #tell(action: 'attach' | 'detach', n: number): Promise<void> {
    const instance = this.#instances[n % this.#instances.length] ?? '';
    const volume = uuidOf(`traffic-${n}`);
    const request = `req-${action}-${n}`;
    const sample = { attach: 'instance-volume_attach-end', detach: 'instance-volume_detach-start' }[action];
    await this.#bus.publish(versioned(sample, { instance, volume, request }));
    this.#sent.push(request);
  }

  /** No more; each that was sent has been done. Returns how many. */
  async end(): Promise<number> {
    this.#stop.abort();
    await this.#running;
    let missing: readonly string[] = [];
    const ended = async () => {
      const told = await this.#bus.told();
      // What the client asked while the agent ended may have been cancelled; nothing of Nova's was.
      const errors = told.filter(
        t => t.event_type.endsWith('.error') && this.#sent.includes(`${t._context_request_id}`),
      );
      assert.deepEqual(errors, []);
      const done = new Set(told.filter(t => t.event_type.endsWith('.end')).map(t => t._context_request_id));
      missing = this.#sent.filter(request => !done.has(request));
      return missing.length === 0;
    };
    await until('all that Nova told is done', ended).catch(cause => {
      throw new Error(`not done: ${missing.join(' ')}`, { cause });
    });
    return this.#sent.length;
  }
}

/** Asks the agent, and, where it is refused or hears nothing, again under the same request id. */
export class Client {
  readonly refusals: string[] = [];
  readonly #bus: BusWorld;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  done = 0;

  constructor(bus: BusWorld) {
    this.#bus = bus;
  }

  async ask(command: Command): Promise<void> {
    for (const deadline = Date.now() + 30_000; ; ) {
      const answer = await execute(this.#bus.world, command);
      if (answer?.result !== undefined) break;
      this.refusals.push(answer?.error?.code ?? 'nobody');
      assert.ok(Date.now() < deadline, `asked for 30 s in vain: ${JSON.stringify(answer?.error)}`);
      await sleep(50);
    }
    this.done++;
  }

  /** One after the other, until `end`. */
  start(instance: string): void {
    this.#running = this.#run(instance);
    this.#running.catch(() => undefined); // told by end
  }

  async #run(ref: string): Promise<void> {
    for (let n = 0; !this.#stop.signal.aborted; n++) {
      const [instance, target] = [{ ref }, '/mnt/client'];
      await this.ask(attachOf(ref, target, `client-attach-${n}`));
      await this.ask({ action: 'detach', instance, target, lazy: false, requestId: `client-detach-${n}` });
      await sleep(20);
    }
  }

  async end(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}

export const attachOf = (ref: string, target: string, requestId: string): Command => ({
  action: 'attach',
  instance: { ref },
  target,
  source: { kind: 'template', template: 'web' },
  readOnly: false,
  requestId,
});
