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
      check('lseek', lseek(this.#fd.fd, 0, SEEK_END), path);
    } catch (error) {
      if (!isNodeErrno(error, 'ENOENT', 'EPERM', 'EACCES', 'ENXIO')) throw error;
    }
  }

  get readable(): boolean {
    return this.#fd !== undefined;
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
