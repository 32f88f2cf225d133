/** Templates, and how much of them and of their snapshots is shared. Looked at when somebody does: the places of all blocks are asked for. */
import { el } from './dom.js';
import { get } from './session.js';
import { age, bytes, number, visible } from './text.js';

const NUMBERS = new Set(['Size', 'Snapshots', 'Age']);

export function templatesView(section) {
  const body = el('tbody');
  const note = el('p', { class: 'quiet', role: 'status' });
  const table = el(
    'table',
    { class: 'plain-table' },
    el(
      'thead',
      {},
      el(
        'tr',
        {},
        ...['Template', 'File system', 'Size', 'Image', 'Snapshots', 'What they share', 'Age'].map(title =>
          el('th', { scope: 'col', class: NUMBERS.has(title) ? 'number' : '' }, title),
        ),
      ),
    ),
    body,
  );
  section.append(
    el('div', { class: 'toolbar' }, el('button', { type: 'button', onclick: () => void look() }, 'Look again'), note),
    el('div', { class: 'scroll', tabIndex: 0, role: 'region', 'aria-label': 'Templates' }, table),
    el('p', { class: 'legend' }, swatch('shared'), 'shared with other images ', swatch('exclusive'), 'its own'),
  );

  async function look() {
    note.textContent = 'looking …';
    const { ok, value } = await get('templates');
    note.textContent = ok
      ? value.templates.length === 0
        ? 'There are no templates.'
        : ''
      : `They cannot be looked at: ${visible(value.error?.message ?? '', 300)}`;
    if (ok) body.replaceChildren(...value.templates.map(line));
  }
  return { shown: () => void look() };
}

function line({ name, fsType, sizeBytes, idBase, image, snapshots, createdAt }) {
  const measured = snapshots.measured < snapshots.count ? ` (${number(snapshots.measured)} looked at)` : '';
  return el(
    'tr',
    {},
    el('th', { scope: 'row' }, el('bdi', {}, visible(name, 64))),
    el('td', {}, `${fsType}${idBase > 0 ? `, ids from ${idBase}` : ''}`),
    el('td', { class: 'number' }, bytes(sizeBytes)),
    el('td', {}, share(image)),
    el('td', { class: 'number' }, `${number(snapshots.count)}${measured}`),
    el('td', {}, snapshots.count === 0 ? el('span', { class: 'quiet' }, 'none') : share(snapshots)),
    el('td', { class: 'number' }, age(createdAt, Date.now())),
  );
}

function share({ sharedBytes, exclusiveBytes }) {
  const whole = Math.max(1, sharedBytes + exclusiveBytes);
  const part = (name, size) => {
    const bar = el('span', { class: name });
    bar.style.width = `${(size / whole) * 100}%`;
    return bar;
  };
  return el(
    'div',
    { class: 'share' },
    el(
      'span',
      { class: 'share-bar', 'aria-hidden': 'true' },
      part('shared', sharedBytes),
      part('exclusive', exclusiveBytes),
    ),
    el('span', {}, `${bytes(sharedBytes)} shared, ${bytes(exclusiveBytes)} own`),
  );
}

const swatch = name => el('span', { class: `swatch ${name}`, 'aria-hidden': 'true' });
