/** What the agent tells, as it tells it: server-sent events over fetch, since an EventSource shows no token. */
import { request } from './session.js';

/** The agent says something every ten seconds. */
const SILENCE_MS = 25_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

/** Sections by name: rows by their key. */
export class Live {
  sections = new Map();
  facts = {};
  failed = new Map();
  #listeners = new Map();
  #lastId = '';
  #onStatus;
  #connection;

  /** @param {(status: 'live'|'connecting'|'lost'|'refused', retryMs?: number) => void} onStatus */
  constructor(onStatus) {
    this.#onStatus = onStatus;
  }

  /** @param {string} section @param {() => void} listener */
  on(section, listener) {
    this.#listeners.set(section, [...(this.#listeners.get(section) ?? []), listener]);
  }

  rows(section) {
    return this.sections.get(section) ?? new Map();
  }

  /** For ever. */
  async run() {
    let wait = FIRST_WAIT_MS;
    for (;;) {
      const began = performance.now();
      const status = await this.#connect().catch(() => 0);
      if (status === 401) return this.#onStatus('refused');
      wait = performance.now() - began > 10_000 ? FIRST_WAIT_MS : Math.min(wait * 2, LONGEST_WAIT_MS);
      // Not all who lost the same agent at the same moment.
      const pause = wait * (0.75 + Math.random() / 2);
      this.#onStatus('lost', pause);
      await new Promise(resolve => {
        const timer = setTimeout(resolve, pause);
        addEventListener('online', () => resolve(clearTimeout(timer)), { once: true });
      });
      this.#onStatus('connecting');
    }
  }

  async #connect() {
    this.#connection = new AbortController();
    let watch;
    const heard = () => {
      clearTimeout(watch);
      watch = setTimeout(() => this.#connection.abort(), SILENCE_MS);
    };
    heard();
    try {
      const headers = this.#lastId === '' ? {} : { 'last-event-id': this.#lastId };
      const response = await request('events', { headers, signal: this.#connection.signal });
      if (!response.ok) return response.status;
      this.#onStatus('live');
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parts = [];
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return 0;
        heard();
        // Joined when an event is whole: a snapshot comes in many pieces, and one may end between the two line ends.
        const isWhole = `${parts.at(-1)?.slice(-1) ?? ''}${value}`.includes('\n\n');
        parts.push(value);
        if (!isWhole) continue;
        const events = parts.splice(0).join('').split('\n\n');
        const rest = events.pop();
        if (rest) parts.push(rest);
        for (const event of events) this.#take(event);
      }
    } finally {
      clearTimeout(watch);
    }
  }

  #take(event) {
    const fields = new Map(
      event
        .split('\n')
        .filter(line => !line.startsWith(':'))
        .map(line => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
    );
    const kind = fields.get('event');
    if (kind === undefined) return;
    const data = JSON.parse(fields.get('data'));
    this.#lastId = fields.get('id');
    if (kind === 'snapshot') {
      const { sections, ...facts } = data;
      this.facts = facts;
      this.sections = new Map(
        Object.entries(sections).map(([name, { rows }]) => [name, new Map(rows.map(row => [keyOf(row), row]))]),
      );
      this.failed = new Map(Object.entries(sections).map(([name, { failed }]) => [name, failed]));
      for (const name of ['facts', ...this.#listeners.keys()]) this.#tell(name);
      return;
    }
    for (const [name, { set, gone, failed }] of Object.entries(data)) {
      const rows = this.rows(name);
      for (const key of gone) rows.delete(key);
      for (const row of set) rows.set(keyOf(row), row);
      this.sections.set(name, rows);
      this.failed.set(name, failed);
      this.#tell(name);
    }
  }

  #tell(name) {
    for (const listener of this.#listeners.get(name) ?? []) listener();
  }
}

const keyOf = row => String(row.key ?? row.id);
