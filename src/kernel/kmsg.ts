/** The kernel log: the only place where a file system says what is wrong with an image. @see dev-kmsg */
import { constants, readSync } from 'node:fs';
import { isNodeErrno } from './errno.ts';
import { type Fd, type Owned, open } from './fd.ts';
import { bind, check, NR } from './libc.ts';

const SEEK_END = 2;
const RECORD_BYTES = 8192;
const lseek = bind(NR.lseek, 'int', 'long', 'int');

/** All that the kernel logs from the moment this is made. */
export class KernelLog implements Disposable {
  readonly #fd: Owned<Fd> | undefined;

  /** Where the log cannot be read (no CAP_SYSLOG, no /dev/kmsg) there will be no lines: `readable` is false. */
  constructor(path = '/dev/kmsg') {
    try {
      this.#fd = open(path, constants.O_RDONLY | constants.O_NONBLOCK);
      this.mark();
    } catch (error) {
      if (!isNodeErrno(error, 'ENOENT', 'EPERM', 'EACCES', 'ENXIO')) throw error;
    }
  }

  get readable(): boolean {
    return this.#fd !== undefined;
  }

  /** Begins anew: nothing that was logged up to now is told. */
  mark(): void {
    if (this.#fd !== undefined) check('lseek', lseek(this.#fd.fd, 0, SEEK_END), '/dev/kmsg');
  }

  /** Texts of the records since then that name this block device (`loop3`, not `loop30`), oldest first; each is told once. */
  linesAbout(deviceName: string): readonly string[] {
    const named = new RegExp(`(?<![\\w-])${deviceName.replaceAll(/[^\w-]/g, '\\$&')}(?!\\w)`);
    return [...this.#records()].filter(line => named.test(line));
  }

  *#records(): Generator<string> {
    if (this.#fd === undefined) return;
    const buffer = Buffer.alloc(RECORD_BYTES);
    for (;;) {
      try {
        const length = readSync(this.#fd.fd, buffer);
        // "priority,sequence,microseconds,flags;text\n KEY=value\n..."
        const record = buffer.toString('utf8', 0, length);
        yield record.slice(record.indexOf(';') + 1).split('\n', 1)[0] ?? '';
      } catch (error) {
        if (isNodeErrno(error, 'EPIPE')) continue; // records were overwritten before we came; go on with the oldest left
        if (isNodeErrno(error, 'EAGAIN')) return; // no more
        throw error;
      }
    }
  }

  [Symbol.dispose](): void {
    this.#fd?.[Symbol.dispose]();
  }
}

/** Opening the log costs 70 us, marking an open one costs 1: so they are lent out, and kept for the next. */
export class KernelLogs implements Disposable {
  readonly #idle: KernelLog[] = [];

  /** A log that begins now; disposing of the loan brings it back. */
  borrow(): Disposable & { readonly log: KernelLog } {
    const log = this.#idle.pop() ?? new KernelLog();
    log.mark();
    return { log, [Symbol.dispose]: () => void this.#idle.push(log) };
  }

  [Symbol.dispose](): void {
    for (const log of this.#idle.splice(0)) log[Symbol.dispose]();
  }
}
