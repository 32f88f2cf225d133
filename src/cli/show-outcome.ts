/** How the answers of the engine look to a person. */
import { type Outcome, sourceName } from '../engine/model.ts';
import type { Preview } from '../engine/preview.ts';
import type { AttachmentView } from '../http/view.ts';
import { paint, table } from './output.ts';
import { planTable } from './plan-table.ts';

export type OutcomeView = Omit<Outcome, 'attachments'> & { readonly attachments: readonly AttachmentView[] };

/** One line of what was done, and each step with its milliseconds. */
export function outcomeText(value: unknown): string {
  const answer = value as OutcomeView | Preview;
  if ('dryRun' in answer) return previewText(answer);
  const { changed, attachments, steps, durationMs } = answer;
  const lines = attachments.map(
    a => `${paint(changed ? 'green' : 'dim', a.state)}  ${a.instance}:${a.target}  ${sourceText(a)}  ${where(a)}`,
  );
  if (lines.length === 0) lines.push(changed ? paint('green', 'gone') : 'nothing to do');
  if (!changed && attachments.length > 0) lines.push('unchanged: it was so already');
  if (steps.length > 0)
    lines.push(`${durationMs.toFixed(1)} ms: ${steps.map(s => `${s.step} ${s.ms.toFixed(1)}`).join(', ')}`);
  return lines.join('\n');
}

function previewText({ steps, changed }: Preview): string {
  return changed ? planTable(steps) : 'nothing to do';
}

export function attachmentTable(rows: readonly AttachmentView[]): string {
  if (rows.length === 0) return 'no attachments';
  return table(
    ['ID', 'INSTANCE', 'TARGET', 'SOURCE', 'STATE', 'DEVICE', 'HOST IDS', 'AGE'],
    rows.map(a => [a.id, a.instance, a.target, sourceText(a), a.state, a.device ?? '-', hostIds(a), age(a.createdAt)]),
  );
}

/** Everything about attachments, a key a line. */
export function attachmentDetails(rows: readonly AttachmentView[]): string {
  return rows
    .map(a =>
      Object.entries(a)
        .map(([key, value]) => `${key.padEnd(10)}  ${typeof value === 'string' ? value : JSON.stringify(value)}`)
        .join('\n'),
    )
    .join('\n\n');
}

function sourceText({ source, readOnly }: AttachmentView): string {
  return `${source.kind === 'template' ? `template ${source.template}` : sourceName(source)}${readOnly ? ' (ro)' : ''}`;
}

function where(a: AttachmentView): string {
  return [a.device, a.role === 'root' ? a.hostPath : undefined, hostIds(a)]
    .filter(part => part !== undefined)
    .join('  ');
}

function hostIds({ extents }: AttachmentView): string {
  const first = extents.find(e => e.kind === 'uid');
  return first ? `${first.hostId}+${first.count}` : '-';
}

function age(since: string): string {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(since)) / 1000));
  for (const [unit, size] of [
    ['d', 86_400],
    ['h', 3600],
    ['m', 60],
  ] as const)
    if (seconds >= size) return `${Math.floor(seconds / size)}${unit}`;
  return `${seconds}s`;
}
