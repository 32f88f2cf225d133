/** What is attached on this host: found, sorted, and looked at one by one with what was done last for it. */
import { coalesced, el, facts, setText } from './dom.js';
import { age, number, visible } from './text.js';
import { timeline } from './timeline.js';
import { VirtualTable } from './virtual-table.js';

const STATES = ['attached', 'attaching', 'detaching', 'detached', 'undoing'];
/** What is under way, or was left half way: what one looks for. */
const URGENCY = { undoing: 0, detaching: 1, attaching: 2, attached: 3, detached: 4 };
const toneOf = row => (row.error ? 'bad' : row.state);
const sourceOf = ({ from, volumeId }) => volumeId ?? from.name;

export function attachmentsView(section, live, { showDetail }) {
  const now = () => Date.now();
  const columns = [
    {
      name: 'state',
      title: 'State',
      text: row => row.state,
      tone: toneOf,
      order: row => (row.error ? -1 : (URGENCY[row.state] ?? 9)),
    },
    {
      name: 'instance',
      title: 'Instance',
      text: row =>
        row.project === undefined || row.project === 'default' ? row.instance : `${row.project}/${row.instance}`,
    },
    { name: 'target', title: 'Target', text: row => (row.role === 'root' ? '/ (root)' : row.target) },
    { name: 'source', title: 'Template or volume', text: sourceOf },
    { name: 'map', title: 'Map', text: row => row.map },
    { name: 'age', title: 'Age', text: row => age(row.createdAt, now()), order: row => -Date.parse(row.createdAt) },
    { name: 'error', title: 'Error', text: row => (row.error ? `${row.error.code}: ${row.error.message}` : '') },
  ];
  const table = new VirtualTable({
    label: 'Attachments',
    columns,
    keyOf: row => row.id,
    onOpen: row => open(row.id),
    sort: { name: 'instance', down: false },
    empty: 'Nothing is attached here that this would show.',
  });
  const filter = el('input', {
    type: 'search',
    id: 'filter',
    placeholder: 'instance, target, volume, id …',
    spellcheck: false,
    autocomplete: 'off',
    oninput: coalesced(draw, 60),
  });
  const found = el('output', { class: 'quiet', htmlFor: 'filter' });
  const chosen = new Set();
  const chips = new Map(
    STATES.map(state => [
      state,
      el('button', { type: 'button', class: `chip ${state}`, 'aria-pressed': 'false', onclick: () => toggle(state) }),
    ]),
  );
  const withErrors = el('button', {
    type: 'button',
    class: 'chip bad',
    'aria-pressed': 'false',
    onclick: () => toggle('error'),
  });
  section.append(
    el(
      'div',
      { class: 'toolbar' },
      el('label', { class: 'search', htmlFor: 'filter' }, el('span', { class: 'unseen' }, 'Filter'), filter),
      el('div', { class: 'chips', role: 'group', 'aria-label': 'Only these states' }, ...chips.values(), withErrors),
      found,
    ),
    table.element,
  );
  let opened;
  const haystacks = new WeakMap();

  function toggle(state) {
    if (!chosen.delete(state)) chosen.add(state);
    for (const [name, chip] of [...chips, ['error', withErrors]])
      chip.setAttribute('aria-pressed', String(chosen.has(name)));
    draw();
  }

  function haystack(row) {
    let text = haystacks.get(row);
    if (text === undefined) {
      text = [
        row.id,
        row.instance,
        row.project,
        row.target,
        row.from.name,
        row.volumeId,
        row.device,
        row.map,
        row.error?.message,
      ]
        .join('\n')
        .toLowerCase();
      haystacks.set(row, text);
    }
    return text;
  }

  function draw() {
    const all = [...live.rows('attachments').values()];
    const counts = Object.groupBy(all, row => row.state);
    for (const [state, chip] of chips) setText(chip, `${state} ${number(counts[state]?.length ?? 0)}`);
    for (const [state, chip] of chips) chip.hidden = !counts[state] && !chosen.has(state);
    const errors = all.filter(row => row.error).length;
    setText(withErrors, `with an error ${number(errors)}`);
    withErrors.hidden = errors === 0 && !chosen.has('error');
    const words = filter.value
      .toLowerCase()
      .split(/\s+/)
      .filter(word => word !== '');
    const rows = all.filter(
      row =>
        (chosen.size === 0 || chosen.has(row.state) || (chosen.has('error') && row.error)) &&
        words.every(word => haystack(row).includes(word)),
    );
    table.rows = rows;
    setText(found, rows.length === all.length ? '' : `${number(rows.length)} of ${number(all.length)}`);
    setText(document.getElementById('count-attachments'), number(all.length));
  }

  function open(id) {
    opened = id;
    drawDetail(true);
  }

  function drawDetail(isNew) {
    if (opened === undefined) return;
    const row = live.rows('attachments').get(opened);
    const run = lastRun(live, opened);
    const title = row
      ? `${visible(row.instance, 60)} ${row.role === 'root' ? '(root)' : visible(row.target, 80)}`
      : opened;
    const body = [
      row
        ? facts([
            ['state', row.state],
            ['id', row.id],
            ['instance', visible(row.instance, 300)],
            ['project', row.project && visible(row.project, 300)],
            ['target', visible(row.target, 1000)],
            ['source', `${row.from.kind} ${visible(row.from.name, 1000)}`],
            ['volume', row.volumeId && visible(row.volumeId, 300)],
            ['device', row.device && visible(row.device, 300)],
            ['file system', row.fsType && `${row.fsType}${row.readOnly ? ', read-only' : ''}`],
            ['map', visible(row.map, 1000)],
            ['since', row.createdAt],
            ['changed', row.updatedAt],
            ['error', row.error && `${row.error.code}: ${visible(row.error.message, 2000)}`],
            ['remedy', row.error?.remedy && visible(row.error.remedy, 1000)],
          ])
        : el('p', {}, 'It is gone: it was destroyed, or undone.'),
      el('h3', {}, 'Last run'),
      run
        ? timeline(run)
        : el(
            'p',
            { class: 'quiet' },
            'Nothing of it is remembered. The agent keeps its last 256 runs in memory, from when it was first asked.',
          ),
    ];
    showDetail({
      title,
      body,
      isNew,
      owner: 'attachments',
      onClose: () => {
        opened = undefined;
        table.focus();
      },
    });
  }

  const soon = coalesced(draw, 250);
  const detailSoon = coalesced(() => drawDetail(false), 250);
  live.on('attachments', () => {
    soon();
    detailSoon();
  });
  live.on('runs', detailSoon);
  setInterval(() => table.refresh(), 10_000);
  return { focus: () => table.focus(), filter: () => filter.focus() };
}

function lastRun(live, attachment) {
  let last;
  for (const run of live.rows('runs').values())
    if (run.attachment === attachment && (!last || run.id > last.id)) last = run;
  return last;
}
