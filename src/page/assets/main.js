/** Puts the page together: views, tabs, the panel of what is chosen, keys. */
import { attachmentsView } from './attachments.js';
import { deadLettersView } from './dead-letters.js';
import { el, setText } from './dom.js';
import { idsView } from './ids.js';
import { Live } from './live.js';
import { runsView } from './runs.js';
import { askForToken, hasToken, openLink } from './session.js';
import { templatesView } from './templates.js';
import { visible } from './text.js';

const SAYS = { live: 'live', connecting: 'connecting', lost: 'no connection', refused: 'not for you' };
const KEYS = [
  ['1 – 5', 'another view'],
  ['/', 'filter the attachments'],
  ['↑ ↓, j k, Page, Home, End', 'through a table'],
  ['Enter', 'open what is chosen'],
  ['Esc', 'close what is open'],
  ['← → ↑ ↓, + −, 0', 'in the picture of ids: along, nearer, farther, fit'],
  ['?', 'this list'],
];

const status = document.getElementById('status');
const problem = document.getElementById('problem');
const main = document.getElementById('main');
const tokenButton = document.getElementById('token-button');
const live = new Live(showStatus);
const panel = makePanel();
const parts = { showDetail: panel.show };
const views = [
  ['attachments', attachmentsView],
  ['ids', idsView],
  ['runs', runsView],
  ['templates', templatesView],
  ['dead-letters', deadLettersView],
].map(([name, make]) => {
  const section = document.getElementById(`view-${name}`);
  return { name, section, tab: document.getElementById(`tab-${name}`), view: make(section, live, parts) };
});
main.append(panel.element);
let current;

function showStatus(state) {
  status.className = `status ${state}`;
  setText(
    document.getElementById('status-text'),
    state === 'lost' ? `${SAYS.lost} since ${new Date().toLocaleTimeString('en-GB')}` : SAYS[state],
  );
  if (state === 'refused')
    showProblem('This is for whoever has its link. Each link opens once: “shiftvol ui” makes another.');
}

function showProblem(text) {
  problem.hidden = text === '';
  setText(problem, text);
}

function choose(name, { focus = false } = {}) {
  if (current?.name === name) return;
  current = views.find(view => view.name === name) ?? views[0];
  for (const { name: one, section, tab } of views) {
    const isIt = one === current.name;
    section.hidden = !isIt;
    tab.setAttribute('aria-selected', String(isIt));
    tab.tabIndex = isIt ? 0 : -1;
  }
  panel.showOnly(current.name);
  current.view.shown?.();
  if (focus) current.tab.focus();
  if (location.hash !== `#${current.name}`) history.replaceState(null, '', `#${current.name}`);
}

/** Beside the table, or, where there is no room, over it. */
function makePanel() {
  let owner;
  let onClose;
  const title = el('h2', { id: 'panel-title', tabIndex: -1 });
  const body = el('div', { class: 'panel-body' });
  const close = () => {
    element.hidden = true;
    owner = undefined;
    const after = onClose;
    onClose = undefined;
    after?.();
  };
  const element = el(
    'aside',
    { class: 'panel', hidden: true, 'aria-labelledby': 'panel-title' },
    el(
      'div',
      { class: 'panel-head' },
      title,
      el('button', { type: 'button', 'aria-label': 'Close', onclick: close }, '✕'),
    ),
    body,
  );
  return {
    element,
    close,
    get isOpen() {
      return !element.hidden;
    },
    /** `isNew`: somebody asked for it; else it is the same one as it is by now. */
    show(detail) {
      if (!detail.isNew && owner !== detail.owner) return;
      if (detail.isNew && owner !== detail.owner) onClose = undefined;
      owner = detail.owner;
      onClose = detail.onClose;
      setText(title, detail.title);
      body.replaceChildren(...detail.body);
      if (detail.isNew) body.scrollTop = 0;
      element.hidden = owner !== current.name;
    },
    showOnly(name) {
      if (owner !== undefined) element.hidden = owner !== name;
    },
  };
}

function showHelp() {
  const dialog = el(
    'dialog',
    { 'aria-labelledby': 'help-title' },
    el('h2', { id: 'help-title' }, 'Keys'),
    el(
      'dl',
      { class: 'keys' },
      ...KEYS.flatMap(([keys, what]) => [
        el('dt', {}, ...keys.split(', ').map(key => el('kbd', {}, key))),
        el('dd', {}, what),
      ]),
    ),
    el('div', { class: 'dialog-actions' }, el('button', { type: 'button', onclick: () => dialog.close() }, 'Close')),
  );
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function onKey(event) {
  if (
    event.defaultPrevented ||
    event.ctrlKey ||
    event.metaKey ||
    event.altKey ||
    document.querySelector('dialog[open]')
  )
    return;
  const isTyping = event.target instanceof HTMLInputElement && event.target.type !== 'checkbox';
  if (event.key === 'Escape') {
    if (isTyping && event.target.value !== '') return;
    if (panel.isOpen) panel.close();
    else if (isTyping) current.view.focus?.();
    return;
  }
  if (isTyping) {
    if (event.key === 'Enter') current.view.focus?.();
    return;
  }
  const byNumber = views[Number(event.key) - 1];
  if (byNumber && !event.shiftKey && !(event.target instanceof HTMLCanvasElement))
    choose(byNumber.name, { focus: true });
  else if (event.key === '?') showHelp();
  else if (event.key === '/') {
    choose('attachments');
    current.view.filter();
  } else return;
  event.preventDefault();
}

function onTabKey(event) {
  const at = views.findIndex(view => view.tab === event.target);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: views.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  choose(views[(to + views.length) % views.length].name, { focus: true });
}

let isKnown = false;

function showFacts() {
  // What the view of the first moment could not know yet.
  if (!isKnown) current.view.shown?.();
  isKnown = true;
  const { host, canAct, isPrivate } = live.facts;
  setText(document.getElementById('host'), visible(host ?? '', 100));
  document.title = host === undefined ? 'shiftvol' : `${visible(host, 60)} · shiftvol`;
  tokenButton.hidden = !canAct || isPrivate || hasToken();
  showFailed();
}

function showFailed() {
  const failed = [...live.failed].filter(([, why]) => why !== null);
  showProblem(failed.map(([name, why]) => `${name}: ${visible(why, 300)}`).join(' · '));
}

document.addEventListener('keydown', onKey);
document.querySelector('[role=tablist]').addEventListener('keydown', onTabKey);
for (const { name, tab } of views) tab.addEventListener('click', () => choose(name));
document.getElementById('help-button').addEventListener('click', showHelp);
tokenButton.addEventListener('click', async () => {
  tokenButton.hidden = await askForToken();
});
live.on('facts', showFacts);
for (const name of ['attachments', 'ids', 'runs']) live.on(name, showFailed);

const opened = await openLink();
choose(views.find(view => `#${view.name}` === location.hash)?.name ?? 'attachments');
if (opened === false) showStatus('refused');
else void live.run();
