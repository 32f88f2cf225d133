/** What could not be handled: with the reason, and what to do with it. Looking takes them out of their queue for a moment, so nobody looks by himself. */
import { el } from './dom.js';
import { askForToken, confirmed, forgetToken, get, post } from './session.js';
import { age, bytes, visible } from './text.js';

export function deadLettersView(section, live) {
  const body = el('tbody');
  const note = el('p', { class: 'quiet', role: 'status' });
  const all = el('input', { type: 'checkbox', 'aria-label': 'All of them', onchange: () => chooseAll() });
  const replay = el(
    'button',
    { type: 'button', class: 'primary', disabled: true, onclick: () => void act('replay') },
    'Replay',
  );
  const drop = el(
    'button',
    { type: 'button', class: 'danger', disabled: true, onclick: () => void act('drop') },
    'Drop',
  );
  const again = el('button', { type: 'button', onclick: () => void look() }, 'Look again');
  section.append(
    el('div', { class: 'toolbar' }, again, replay, drop, note),
    el(
      'div',
      { class: 'scroll', tabIndex: 0, role: 'region', 'aria-label': 'Dead letters' },
      el(
        'table',
        { class: 'plain-table letters' },
        el(
          'thead',
          {},
          el(
            'tr',
            {},
            el('th', { scope: 'col' }, all),
            ...['Reason', 'Event', 'Of', 'Host', 'Age', 'Id'].map(title => el('th', { scope: 'col' }, title)),
          ),
        ),
        body,
      ),
    ),
  );
  let isBusy = false;

  const boxes = () => [...body.querySelectorAll('input')];
  const chosen = () =>
    boxes()
      .filter(box => box.checked)
      .map(box => box.value);

  function chooseAll() {
    for (const box of boxes()) box.checked = all.checked;
    enable();
  }

  function enable() {
    const ids = chosen();
    replay.disabled = drop.disabled = isBusy || ids.length === 0;
    replay.textContent = ids.length > 0 ? `Replay ${ids.length}` : 'Replay';
    drop.textContent = ids.length > 0 ? `Drop ${ids.length}` : 'Drop';
    all.checked = ids.length > 0 && ids.length === boxes().length;
  }

  async function look(said = '') {
    if (!live.facts.canAct) {
      note.textContent = 'This host has no broker: there can be none.';
      again.disabled = all.disabled = true;
      return;
    }
    again.disabled = all.disabled = false;
    note.textContent = 'looking …';
    const { ok, value } = await get('dead-letters');
    const before = new Set(chosen());
    if (ok) body.replaceChildren(...(value.letters ?? []).map(letter => line(letter, before.has(letter.id), enable)));
    const count = value.letters?.length === 0 ? 'There are no dead letters.' : '';
    note.textContent = said || (ok ? count : `They cannot be looked at: ${visible(value.error?.message ?? '', 300)}`);
    enable();
  }

  async function act(action) {
    const ids = chosen();
    if (ids.length === 0 || isBusy || !(await askForToken())) return;
    const text = `${ids.length === 1 ? 'This letter is' : `These ${ids.length} letters are`} thrown away. There is no way back.`;
    if (action === 'drop' && !(await confirmed('Drop for good?', text, 'Drop'))) return;
    isBusy = true;
    enable();
    const { ok, status, value } = await post(`dead-letters/${action}`, { ids });
    isBusy = false;
    if (status === 401) forgetToken();
    await look(ok ? summary(action, value) : `It was not done: ${visible(value.error?.message ?? '', 300)}`);
  }
  return { shown: () => void look() };
}

function summary(action, { done, kept }) {
  const went = `${done.length} ${action === 'replay' ? 'put back into their queues' : 'dropped'}`;
  const [first] = kept;
  return first ? `${went}, ${kept.length} stay: ${visible(first.why, 200)}` : `${went}.`;
}

function line(letter, isChosen, onChange) {
  const box = el('input', {
    type: 'checkbox',
    value: letter.id,
    checked: isChosen,
    onchange: onChange,
    'aria-label': `The letter ${letter.id}`,
  });
  const of = Object.entries(letter.ids)
    .map(([key, value]) => `${key} ${value}`)
    .join(', ');
  return el(
    'tr',
    {},
    el('td', {}, box),
    el(
      'td',
      { class: 'reason' },
      el('bdi', {}, visible(letter.reason, 500)),
      letter.code === null ? undefined : el('code', {}, visible(letter.code, 60)),
    ),
    text(letter.event, 100),
    text(of, 300),
    text(letter.host, 100),
    el('td', { class: 'number' }, letter.at === null ? '' : age(letter.at, Date.now())),
    el('td', { title: bytes(letter.bytes) }, el('code', {}, visible(letter.id, 12))),
  );
}

const text = (value, most) => el('td', {}, el('bdi', {}, visible(value ?? '', most)));
