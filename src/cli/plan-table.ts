/** What `--dry-run` prints: one line for each thing that would be done, its call and the call's object. */
import type { PreviewStep } from '../engine/preview.ts';
import { table } from './output.ts';

export function planTable(steps: readonly PreviewStep[]): string {
  return table(
    ['STEP', 'CALL', 'OBJECT'],
    steps.map(s => [s.step, s.call, s.object]),
  );
}

/** Steps written as `[step, call, object]`. */
export function planSteps(rows: readonly (readonly [string, string, string])[]): readonly PreviewStep[] {
  return rows.map(([step, call, object]) => ({ step, call, object }));
}
