/** A scenario's steps: each is a test of its own, in order, and at the end there is a table of what became of them. */
import { after, test } from 'node:test';
import { inspect, styleText } from 'node:util';

type Row = {
  readonly name: string;
  readonly ms: number;
  readonly ok: boolean;
  readonly note: string;
};
const rows: Row[] = [];
/** A step hangs when a service does not answer: the others are to be seen all the same. */
const STEP_TIMEOUT_MS = 180_000;

/** `work` may return a text worth knowing beside the time. */
export function step(name: string, work: () => Promise<unknown>): void {
  test(name, { timeout: STEP_TIMEOUT_MS }, async () => {
    const began = performance.now();
    const add = (ok: boolean, note: string) => rows.push({ name, ms: performance.now() - began, ok, note });
    try {
      const note = await work();
      add(true, typeof note === 'string' ? note : '');
    } catch (error) {
      add(false, String(error).split('\n')[0]?.slice(0, 100) ?? '');
      // The runner tells it when all is over, which may be a long time.
      console.error(`${name}: ${inspect(error)}`);
      throw error;
    }
  });
}

/** Prints the table when all steps are done. */
export function printTableAtTheEnd(title: string): void {
  after(() => {
    const width = Math.max(...rows.map(r => r.name.length), 4);
    const lines = rows.map(({ name, ms, ok, note }) => {
      const word = ok ? 'ok' : 'failed';
      const mark = styleText(ok ? 'green' : 'red', word.padEnd(6), { stream: process.stdout });
      return `  ${mark}  ${ms.toFixed(0).padStart(6)} ms  ${name.padEnd(width)}  ${note}`;
    });
    const passed = rows.filter(r => r.ok).length;
    console.log([`${title}: ${passed} of ${rows.length}`, ...lines].join('\n'));
  });
}
