import { chmodSync, mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../rig/pool.ts';

/**
 * A directory of the bench's own, and all that has to be taken back, the last first. On SIGINT `signal` aborts: what runs throws at its
 * next round, and everything is taken back as at the end.
 */
export class Workspace implements AsyncDisposable {
  readonly dir: string = mkdtempSync(join(tmpdir(), 'shiftvol-bench-'));
  /** A tmpfs, as /run is where there is an init: mount points are made there, by us and by those we are compared with. */
  readonly runDir: string = join(this.dir, 'run');
  readonly signal: AbortSignal;
  readonly #log: (line: string) => void;
  readonly #stop = new AbortController();
  readonly #stack = new AsyncDisposableStack();
  readonly #onSignal = (): void => this.#stop.abort(new Error('interrupted'));

  /** `log`: for progress; never stdout, which is for the result. */
  constructor(log: (line: string) => void) {
    this.#log = log;
    this.signal = this.#stop.signal;
    mkdirSync(this.runDir);
    chmodSync(this.dir, 0o711);
    run('mount', '-t', 'tmpfs', '-o', 'mode=0711,nosuid,nodev', 'shiftvol-bench', this.runDir);
    this.defer(() => void run('umount', this.runDir));
    process.on('SIGINT', this.#onSignal).on('SIGTERM', this.#onSignal);
  }

  log(line: string): void {
    this.#log(line);
  }

  /** Runs at the end, before what was deferred earlier. */
  defer(undo: () => Promise<void> | void): void {
    this.#stack.defer(undo);
  }

  use<T extends AsyncDisposable | Disposable>(resource: T): T {
    return this.#stack.use(resource);
  }

  /** Files are removed by those who made them and mounts with `umount`: what is left here is plain files of ours. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#stack.disposeAsync();
      run('rm', '-rf', '--one-file-system', '--', this.dir);
    } finally {
      process.off('SIGINT', this.#onSignal).off('SIGTERM', this.#onSignal);
    }
  }
}
