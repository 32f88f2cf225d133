/** One run, step by step, with when each began and how long it took. */
import { el } from './dom.js';
import { duration, visible } from './text.js';

export const ACTIONS = { null: 'recovery or task' };
export const actionOf = run => ACTIONS[String(run.action)] ?? run.action;

export function timeline(run) {
  const end = Math.max(run.durationMs ?? 0, ...run.steps.map(step => step.startMs + step.ms), 0.001);
  const lines = run.steps.map(step => {
    const bar = el('span', { class: `bar ${toneOf(step)}` });
    bar.style.left = `${(step.startMs / end) * 100}%`;
    bar.style.width = `${(step.ms / end) * 100}%`;
    return el(
      'tr',
      {},
      el('th', { scope: 'row' }, visible(step.step, 40)),
      el('td', { class: 'track', 'aria-hidden': 'true' }, bar),
      el('td', { class: 'number' }, duration(step.ms)),
      el('td', { class: 'number begun' }, `+${duration(step.startMs)}`),
      step.failed === undefined ? undefined : el('td', { class: 'why' }, el('bdi', {}, visible(step.failed, 500))),
    );
  });
  return el(
    'div',
    { class: 'timeline' },
    el(
      'p',
      { class: 'run-head' },
      el('strong', {}, visible(actionOf(run))),
      ` ${run.state}`,
      run.durationMs === undefined ? '' : ` in ${duration(run.durationMs)}`,
      el('span', { class: 'quiet' }, ` at ${new Date(run.at).toLocaleTimeString('en-GB')}`),
    ),
    run.error
      ? el(
          'p',
          { class: 'problem' },
          el('code', {}, run.error.code),
          ' ',
          el('bdi', {}, visible(run.error.message, 500)),
        )
      : undefined,
    lines.length === 0
      ? el('p', { class: 'quiet' }, 'It had no step to do.')
      : el(
          'table',
          { class: 'steps' },
          el(
            'thead',
            { class: 'unseen' },
            el(
              'tr',
              {},
              ...['Step', 'Picture', 'Took', 'Began after', 'Failed with'].map(name =>
                el('th', { scope: 'col' }, name),
              ),
            ),
          ),
          el('tbody', {}, ...lines),
        ),
  );
}

function toneOf({ step, failed }) {
  if (failed !== undefined) return 'bad';
  return step.startsWith('undo ') ? 'undo' : 'good';
}
