/** The token of whoever may do something here. It stays in this tab. */
import { el } from './dom.js';

const KEY = 'shiftvol.token';
let token = sessionStorage.getItem(KEY) ?? '';

export const hasToken = () => token !== '';

export function forgetToken() {
  token = '';
  sessionStorage.removeItem(KEY);
}

function keep(fresh) {
  token = fresh;
  sessionStorage.setItem(KEY, fresh);
}

/** Opens the link of `shiftvol ui`: what stands behind its # is good for one token, once. Undefined where there was none. */
export async function openLink() {
  const secret = new URLSearchParams(location.hash.slice(1)).get('once');
  if (secret === null) return undefined;
  // Not for the history, nor for whoever looks over a shoulder.
  history.replaceState(null, '', location.pathname);
  const answer = await post('session', {}, secret);
  if (!answer.ok) return false;
  keep(answer.value.token);
  return true;
}

export function request(path, options = {}) {
  const headers = { ...options.headers, ...(token && { authorization: `Bearer ${token}` }) };
  return fetch(path, { cache: 'no-store', credentials: 'omit', redirect: 'error', ...options, headers });
}

/** @returns {Promise<{ok: boolean, status: number, value: any}>} */
export async function get(path) {
  return await read(request(path));
}

export async function post(path, body, bearer = token) {
  const headers = { 'content-type': 'application/json', ...(bearer && { authorization: `Bearer ${bearer}` }) };
  return await read(request(path, { method: 'POST', body: JSON.stringify(body), headers }));
}

async function read(asking) {
  try {
    const response = await asking;
    return { ok: response.ok, status: response.status, value: await response.json() };
  } catch {
    return { ok: false, status: 0, value: { error: { message: 'the agent does not answer' } } };
  }
}

/** Asks a person for the token, until it is right or he has had enough. Whether there is one now. */
export async function askForToken() {
  if (hasToken()) return true;
  const { promise, resolve } = Promise.withResolvers();
  const input = el('input', {
    type: 'password',
    autocomplete: 'off',
    spellcheck: false,
    id: 'token-input',
    'aria-describedby': 'token-hint token-wrong',
  });
  const wrong = el('p', { class: 'problem', id: 'token-wrong', role: 'alert', hidden: true });
  const enter = async () => {
    const answer = await post('token', {}, input.value.trim());
    if (answer.ok) {
      keep(input.value.trim());
      dialog.close();
      return;
    }
    wrong.hidden = false;
    wrong.textContent =
      answer.status === 401
        ? 'That is not the token.'
        : `It could not be asked: ${answer.value.error?.message ?? answer.status}`;
    input.select();
  };
  const dialog = el(
    'dialog',
    { 'aria-labelledby': 'token-title' },
    el('h2', { id: 'token-title' }, 'The token'),
    el(
      'p',
      { id: 'token-hint' },
      'To do more than look, show the token of this host. It is in the file http.token_file (http.token in the state directory), which root can read.',
    ),
    el('label', { htmlFor: 'token-input' }, 'Token'),
    input,
    wrong,
    el(
      'div',
      { class: 'dialog-actions' },
      el('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'),
      el('button', { type: 'button', class: 'primary', onclick: enter }, 'Show it'),
    ),
  );
  input.addEventListener('keydown', event => {
    if (event.key === 'Enter') void enter();
  });
  dialog.addEventListener('close', () => {
    dialog.remove();
    resolve(hasToken());
  });
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
  return await promise;
}

/** @returns {Promise<boolean>} */
export async function confirmed(title, text, verb) {
  const { promise, resolve } = Promise.withResolvers();
  let answer = false;
  const yes = () => {
    answer = true;
    dialog.close();
  };
  const no = el('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel');
  const dialog = el(
    'dialog',
    { role: 'alertdialog', 'aria-labelledby': 'confirm-title', 'aria-describedby': 'confirm-text' },
    el('h2', { id: 'confirm-title' }, title),
    el('p', { id: 'confirm-text' }, text),
    el('div', { class: 'dialog-actions' }, no, el('button', { type: 'button', class: 'danger', onclick: yes }, verb)),
  );
  dialog.addEventListener('close', () => {
    dialog.remove();
    resolve(answer);
  });
  document.body.append(dialog);
  dialog.showModal();
  no.focus();
  return await promise;
}
