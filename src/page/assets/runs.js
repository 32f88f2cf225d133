/** What was done lately, the newest first. */

import { coalesced, el, setText } from './dom.js';
import { age, duration, number, visible } from './text.js';
import { actionOf, timeline } from './timeline.js';
import { VirtualTable } from './virtual-table.js';

export function runsView(section, live, { showDetail }) {
  const targetOf = run => run.target ?? live.rows('attachments').get(run.attachment)?.target ?? run.attachment;
  const table = new VirtualTable({
    label: 'Runs',
    columns: [
      { name: 'when', title: 'When', text: run => `${age(run.at, Date.now())} ago`, order: run => run.id },
      {
        name: 'state',
        title: 'State',
        text: run => run.state,
        tone: run => ({ failed: 'bad', running: 'attaching', done: 'attached' })[run.state],
      },
      { name: 'action', title: 'Action', text: actionOf },
      { name: 'instance', title: 'Instance', text: run => run.instance },
      { name: 'target', title: 'Target', text: targetOf },
      {
        name: 'took',
        title: 'Took',
        text: run => (run.durationMs === undefined ? '' : duration(run.durationMs)),
        order: run => run.durationMs ?? -1,
      },
      { name: 'steps', title: 'Longest step', text: longest },
      { name: 'error', title: 'Error', text: run => (run.error ? `${run.error.code}: ${run.error.message}` : '') },
    ],
    keyOf: run => String(run.id),
    onOpen: run => open(run.id),
    sort: { name: 'when', down: true },
    empty: 'Nothing was done since the agent began to remember.',
  });
  section.append(
    el('p', { class: 'hint' }, 'The last 256 runs, kept in the agent’s memory. Choose one for its steps.'),
    table.element,
  );
  let opened;

  function open(id) {
    opened = id;
    drawDetail(true);
  }

  function drawDetail(isNew) {
    const run = opened === undefined ? undefined : live.rows('runs').get(String(opened));
    if (!run) return;
    const title = `${actionOf(run)} ${visible(run.instance, 60)} ${visible(targetOf(run), 80)}`;
    showDetail({
      title,
      body: [timeline(run)],
      isNew,
      owner: 'runs',
      onClose: () => {
        opened = undefined;
        table.focus();
      },
    });
  }

  const draw = coalesced(() => {
    const rows = live.rows('runs');
    table.rows = [...rows.values()];
    setText(document.getElementById('count-runs'), number(rows.size));
    drawDetail(false);
  }, 250);
  live.on('runs', draw);
  setInterval(() => table.refresh(), 5000);
  return { focus: () => table.focus() };
}

function longest(run) {
  const step = run.steps.toSorted((a, b) => b.ms - a.ms)[0];
  return step ? `${step.step} ${duration(step.ms)}` : '';
}
