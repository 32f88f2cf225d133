/** How every command prints: JSON for programs, text for people. The only file that knows about terminals. */
import { styleText } from 'node:util';

export type OutputOptions = { readonly json?: boolean };

/** One JSON document on stdout with `--json`, else what `text` says. */
export function print<T>(options: OutputOptions, value: T, text: (value: T) => string): void {
  const line = options.json ? JSON.stringify(value) : text(value);
  if (line !== '') process.stdout.write(`${line}\n`);
}

type Style = Parameters<typeof styleText>[0];
/** Colour on stdout where it is a terminal and NO_COLOR is unset (styleText looks at both). */
export function paint(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

/** Columns padded to their widest cell, two spaces apart; no frames, so that it can be cut and grepped. Nothing for no rows. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return '';
  const widths = head.map((h, i) => Math.max(h.length, ...rows.map(r => r[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((c, i) => c.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  return [paint('bold', line(head)), ...rows.map(line)].join('\n');
}

/** `1.5 GiB`, `4.0 KiB`, `12 B` */
export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;
  let unit = 0;
  let value = n;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/**
 * Progress of long work, on standard error: a bar with rate and time left in a terminal; with `--json` a line
 * `{"event":"progress",...}` for each whole per cent (standard output has the result alone); nothing otherwise.
 */
export function progress(options: OutputOptions, label: string): (doneBytes: number, totalBytes: number) => void {
  const started = performance.now();
  let lastPercent = -1;
  return (done, total) => {
    const percent = total > 0 ? Math.min(100, Math.floor((done / total) * 100)) : 0;
    if (percent === lastPercent) return;
    lastPercent = percent;
    if (options.json) {
      process.stderr.write(
        `${JSON.stringify({ event: 'progress', label, percent, doneBytes: done, totalBytes: total })}\n`,
      );
      return;
    }
    if (!process.stderr.isTTY) return;
    const seconds = (performance.now() - started) / 1000;
    const rate = seconds > 0 ? done / seconds : 0;
    const left = rate > 0 ? Math.ceil((total - done) / rate) : 0;
    const filled = Math.round(percent / 4);
    const bar = `${'█'.repeat(filled)}${'░'.repeat(25 - filled)}`;
    const tail = percent === 100 ? '' : `  ${left} s left`;
    process.stderr.write(`\r\x1b[K${label} ${bar} ${percent}%  ${bytes(rate)}/s${tail}${percent === 100 ? '\n' : ''}`);
  };
}
