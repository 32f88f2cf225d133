/** How doctor's findings look to a person: a line each, below its topic, with what to do about it. */
import type { Check } from '../doctor/check.ts';
import { paint } from './output.ts';

const NAME_WIDTH = 18;
const MARKS = { true: ['green', 'ok  '], warn: ['yellow', 'warn'], false: ['red', 'FAIL'] } as const;

export const topicOf = (check: Check | undefined): string | undefined => check?.check.split('.', 1)[0];

/** `first`: of its topic, whose name then goes before it. */
export function checkText(check: Check, first: boolean): string {
  const [colour, mark] = MARKS[`${check.ok}`];
  const topic = topicOf(check) ?? '';
  const name = check.check.slice(topic.length + 1).padEnd(NAME_WIDTH);
  const lines = [`  ${paint(colour, mark)}  ${name}  ${check.detail}`];
  if (check.remedy !== undefined) lines.push(`        ${' '.repeat(NAME_WIDTH)}${paint('cyan', `-> ${check.remedy}`)}`);
  return [...(first ? [paint('bold', topic)] : []), ...lines].join('\n');
}

export function summaryText(checks: readonly Check[]): string {
  const missing = checks.filter(c => c.ok === false).length;
  const warnings = checks.filter(c => c.ok === 'warn').length;
  const tail = warnings === 0 ? '' : `, ${warnings} to look at`;
  if (missing === 0) return `${paint('green', 'This host has all that is needed')}${tail}`;
  return `${paint('red', `${missing} thing${missing === 1 ? '' : 's'} missing`)}${tail}`;
}
