/** A terminal that is drawn on in place: the alternate screen, keys as they are pressed, and all as it was before, however it ends. */
import { writeSync } from 'node:fs';
import type { ReadStream, WriteStream } from 'node:tty';

/** Alternate screen, no cursor, no wrapping of long lines. @see console_codes(4), xterm's ctlseqs */
const ENTER = '\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J';
const LEAVE = '\x1b[?7h\x1b[?25h\x1b[?1049l';

export type Terminal = Disposable & {
  readonly columns: number;
  readonly rows: number;
  /** Takes the place of what was drawn before, without flicker: what is beyond the last row is left out. */
  draw(lines: readonly string[]): void;
};

export type TerminalEvents = {
  /** `q`, `\x03` for Control-C. */
  key(key: string): void;
  resized(): void;
};

/** Where standard input is no terminal there are no keys. */
export function openTerminal(
  out: WriteStream & { readonly fd: number },
  input: ReadStream | undefined,
  events: TerminalEvents,
): Terminal {
  const onKeys = (text: string) => {
    for (const key of text) events.key(key);
  };
  let left = false;
  const leave = () => {
    if (left) return;
    left = true;
    process.removeListener('exit', leave);
    out.removeListener('resize', events.resized);
    if (input) {
      input.removeListener('data', onKeys).setRawMode(false);
      input.pause();
    }
    try {
      // At the end of a process, after an error that nobody caught too, only what is written at once is written.
      writeSync(out.fd, LEAVE);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error)) throw error; // the terminal has gone
    }
  };
  process.once('exit', leave);
  out.on('resize', events.resized);
  input?.setRawMode(true).setEncoding('utf8').on('data', onKeys);
  out.write(ENTER);
  return {
    get columns() {
      return out.columns;
    },
    get rows() {
      return out.rows;
    },
    draw(lines) {
      const shown = lines.slice(0, out.rows).map(line => `${line}\x1b[K`);
      out.write(`\x1b[H${shown.join('\r\n')}\x1b[J`);
    },
    [Symbol.dispose]: leave,
  };
}
