/** A reporter of tests: which files took longest, for whoever wants to wait less. */
import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';

const SHOWN = 15;

/** Told before the runner's own summary, which comes last. */
export async function* slowFiles(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const files: { readonly file: string; readonly ms: number }[] = [];
  for await (const { type, data } of events) {
    // The one without a file is of the whole run.
    if (type === 'test:summary' && data.file !== undefined) files.push({ file: data.file, ms: data.duration_ms });
    if (type === 'test:diagnostic' && data.nesting === 0 && /^tests \d+$/.test(data.message)) yield text(files);
  }
}

function text(files: readonly { readonly file: string; readonly ms: number }[]): string {
  const slowest = files.toSorted((a, b) => b.ms - a.ms).slice(0, SHOWN);
  const seconds = (ms: number) => (ms / 1000).toFixed(1).padStart(7);
  const all = files.reduce((sum, { ms }) => sum + ms, 0);
  const lines = slowest.map(({ file, ms }) => `ℹ ${seconds(ms)} s  ${relative('.', file)}\n`);
  return `\nℹ ${files.length} files, ${seconds(all).trim()} s one after the other; the longest:\n${lines.join('')}`;
}
