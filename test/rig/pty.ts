/** A command in a real terminal of its own: what it draws, and what becomes of the terminal. By Python, since Node has no pty. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const PTY = fileURLToPath(new URL('terminal.py', import.meta.url));
const PATIENCE_MS = 10_000;

export const hasPty = spawnSync('python3', ['-c', 'import pty']).status === 0;
export type PtyEnd = { readonly exit: number; readonly cooked: boolean };

export class Pty implements AsyncDisposable {
  /** All that was drawn, with its control sequences. */
  text = '';
  readonly ended: Promise<PtyEnd>;
  readonly #python: ChildProcess;

  constructor(argv: readonly string[], { rows = 24, columns = 80, env = process.env } = {}) {
    const all = [PTY, String(rows), String(columns), ...argv];
    this.#python = spawn('python3', all, { env, stdio: ['pipe', 'pipe', 'inherit'] });
    const { promise, resolve, reject } = Promise.withResolvers<PtyEnd>();
    this.ended = promise;
    const { stdin, stdout } = this.#python;
    if (!stdin || !stdout) throw new Error('no pipe');
    stdin.on('error', () => undefined); // it has ended: told by `ended`
    createInterface(stdout)
      .on('line', line => {
        const told: { text?: string } & Partial<PtyEnd> = JSON.parse(line);
        if (told.text !== undefined) this.text += told.text;
        if (told.exit !== undefined) resolve({ exit: told.exit, cooked: told.cooked ?? false });
      })
      .once('close', () => reject(new Error('the terminal has gone')));
    promise.catch(() => undefined); // told to whoever waits
  }

  tell(
    order: { keys: string } | { signal: NodeJS.Signals } | { size: readonly [rows: number, columns: number] },
  ): void {
    this.#python.stdin?.write(`${JSON.stringify(order)}\n`);
  }

  /** What was drawn after `from` characters, once it is matched. */
  async until(pattern: RegExp, from = 0): Promise<string> {
    for (const deadline = Date.now() + PATIENCE_MS; ; await sleep(20)) {
      const text = this.text.slice(from);
      if (pattern.test(text)) return text;
      if (Date.now() > deadline) throw new Error(`waited for ${pattern} in vain: ${JSON.stringify(text.slice(-2000))}`);
    }
  }

  /** The last whole picture, without control sequences. */
  get picture(): readonly string[] {
    const last = this.text.split('\x1b[H').at(-1) ?? '';
    return plain(last).split(/\r+\n/);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#python.exitCode !== null) return;
    this.tell({ signal: 'SIGKILL' });
    await once(this.#python, 'close');
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
const plain = (text: string): string => text.replace(/\x1b\[[?\d;]*[A-Za-z]/g, '');
