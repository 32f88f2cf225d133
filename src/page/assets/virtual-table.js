/** A table of any length, of which only what is to be seen is in the document. Walked through with the keyboard as one widget. */
import { el, setText } from './dom.js';
import { sortKey, visible } from './text.js';

/** Rows that are there above and below, so that a quick scroll does not meet a blank. */
const AHEAD = 6;
let tables = 0;

/**
 * @typedef {object} Column
 * @property {string} name also the class of its cells
 * @property {string} title
 * @property {(row: any) => string} text hostile: shown bounded, as text
 * @property {(row: any) => string} [tone] a class for the cell
 * @property {(row: any) => string | number} [order] to sort by, where that is not the text
 */
export class VirtualTable {
  element;
  #columns;
  #keyOf;
  #onOpen;
  #body;
  #space;
  #empty;
  #heads = new Map();
  #lines = [];
  #rows = [];
  #shown = [];
  #sort;
  #keys = new WeakMap();
  #activeKey;
  #active = -1;
  #id = `t${tables++}`;
  #height = 36;
  #planned = false;

  /** @param {{label: string, columns: readonly Column[], keyOf: (row: any) => string, onOpen?: (row: any) => void, sort?: {name: string, down: boolean}, empty: string}} options */
  constructor({ label, columns, keyOf, onOpen, sort, empty }) {
    this.#columns = columns;
    this.#keyOf = keyOf;
    this.#onOpen = onOpen;
    this.#sort = sort ?? { name: columns[0].name, down: false };
    this.#space = el('div', { class: 'vt-space', role: 'rowgroup' });
    this.#empty = el('p', { class: 'empty', hidden: true }, empty);
    this.#body = el('div', { class: 'vt-body', role: 'presentation' }, this.#space, this.#empty);
    this.element = el(
      'div',
      {
        class: 'vt',
        role: 'grid',
        tabIndex: 0,
        'aria-label': label,
        'aria-colcount': String(columns.length),
        'aria-readonly': 'true',
      },
      this.#head(),
      this.#body,
    );
    this.#body.addEventListener('scroll', () => this.#plan(), { passive: true });
    this.element.addEventListener('keydown', event => this.#onKey(event));
    this.#space.addEventListener('click', event => this.#onClick(event));
    new ResizeObserver(() => this.#measure()).observe(this.#body);
  }

  get shown() {
    return this.#shown.length;
  }

  get active() {
    return this.#shown[this.#active];
  }

  /** All rows, in any order. */
  set rows(rows) {
    this.#rows = rows;
    this.#arrange();
  }

  /** Texts that are otherwise by now without their row being so: ages. */
  refresh() {
    for (const line of this.#lines) line.row = undefined;
    this.#plan();
  }

  focus() {
    this.element.focus();
  }

  /** Makes it the active one and brings it into sight. */
  choose(key) {
    this.#activeKey = key;
    this.#active = this.#shown.findIndex(row => this.#keyOf(row) === key);
    this.#reveal();
  }

  #head() {
    const cells = this.#columns.map(({ name, title }) => {
      const button = el(
        'button',
        { type: 'button', onclick: () => this.#sortBy(name) },
        title,
        el('span', { class: 'arrow', 'aria-hidden': 'true' }),
      );
      const head = el('div', { class: `vt-cell ${name}`, role: 'columnheader' }, button);
      this.#heads.set(name, head);
      return head;
    });
    this.#showSort();
    return el(
      'div',
      { class: 'vt-head', role: 'rowgroup' },
      el('div', { class: 'vt-row', role: 'row', 'aria-rowindex': '1' }, ...cells),
    );
  }

  #sortBy(name) {
    this.#sort = { name, down: this.#sort.name === name && !this.#sort.down };
    this.#showSort();
    this.#arrange();
  }

  #showSort() {
    for (const [name, head] of this.#heads) {
      const { down } = this.#sort;
      if (name === this.#sort.name) head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
    }
  }

  #arrange() {
    const { name, down } = this.#sort;
    const column = this.#columns.find(c => c.name === name);
    const sign = down ? -1 : 1;
    this.#shown = this.#rows.toSorted((a, b) => {
      const [x, y] = [this.#key(a, column), this.#key(b, column)];
      return x < y ? -sign : x > y ? sign : 0;
    });
    if (this.#activeKey !== undefined)
      this.#active = this.#shown.findIndex(row => this.#keyOf(row) === this.#activeKey);
    this.element.setAttribute('aria-rowcount', String(this.#shown.length + 1));
    this.#empty.hidden = this.#shown.length > 0;
    this.#space.style.height = `${this.#shown.length * this.#height}px`;
    this.#plan();
  }

  /** Kept as long as the row is: making it is most of the cost of sorting. */
  #key(row, column) {
    let keys = this.#keys.get(row);
    if (!keys) {
      keys = {};
      this.#keys.set(row, keys);
    }
    keys[column.name] ??= column.order ? column.order(row) : sortKey(column.text(row));
    return keys[column.name];
  }

  #measure() {
    const height = Number.parseFloat(getComputedStyle(this.element).getPropertyValue('--row-height')) || this.#height;
    if (height !== this.#height) {
      this.#height = height;
      this.#space.style.height = `${this.#shown.length * height}px`;
      for (const line of this.#lines) line.index = -1;
    }
    this.#plan();
  }

  #plan() {
    if (this.#planned) return;
    this.#planned = true;
    requestAnimationFrame(() => {
      this.#planned = false;
      this.#draw();
    });
  }

  /** A row of the data is always in the line of its number modulo their count: what stays in sight is not touched. */
  #draw() {
    const view = this.#body.clientHeight;
    if (view === 0) return;
    const wanted = Math.min(this.#shown.length, Math.ceil(view / this.#height) + 2 * AHEAD);
    while (this.#lines.length < wanted) this.#addLine();
    if (this.#lines.length > wanted) {
      for (const line of this.#lines.splice(wanted)) line.element.remove();
      for (const line of this.#lines) line.index = -1;
    }
    const first = Math.max(
      0,
      Math.min(Math.floor(this.#body.scrollTop / this.#height) - AHEAD, this.#shown.length - wanted),
    );
    for (let index = first; index < first + wanted; index++) this.#fill(this.#lines[index % wanted], index);
    const line =
      this.#active >= first && this.#active < first + wanted ? this.#lines[this.#active % wanted] : undefined;
    if (line) this.element.setAttribute('aria-activedescendant', line.element.id);
    else this.element.removeAttribute('aria-activedescendant');
  }

  #addLine() {
    const cells = this.#columns.map(({ name }) => el('div', { class: `vt-cell ${name}`, role: 'gridcell' }, el('bdi')));
    const element = el('div', { class: 'vt-row', role: 'row', id: `${this.#id}-${this.#lines.length}` }, ...cells);
    this.#lines.push({ element, cells, index: -1, row: undefined, isActive: false });
    this.#space.append(element);
    for (const line of this.#lines) line.index = -1;
  }

  #fill(line, index) {
    const row = this.#shown[index];
    if (line.index !== index) {
      line.element.style.transform = `translateY(${index * this.#height}px)`;
      line.element.setAttribute('aria-rowindex', String(index + 2));
      line.element.classList.toggle('odd', index % 2 === 1);
      line.index = index;
    }
    const isActive = index === this.#active;
    if (line.isActive !== isActive) {
      line.element.setAttribute('aria-selected', String(isActive));
      line.isActive = isActive;
    }
    if (line.row === row) return;
    line.row = row;
    this.#columns.forEach(({ name, text, tone }, i) => {
      setText(line.cells[i].firstChild, visible(text(row), 160));
      if (tone) line.cells[i].className = `vt-cell ${name} ${tone(row)}`;
    });
  }

  #onClick(event) {
    const line = this.#lines.find(({ element }) => element.contains(event.target));
    if (!line || line.index < 0) return;
    this.#move(line.index);
    this.#onOpen?.(this.#shown[line.index]);
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.element) return;
    const page = Math.max(1, Math.floor(this.#body.clientHeight / this.#height) - 1);
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page };
    const ends = { Home: 0, End: this.#shown.length - 1 };
    if (event.key in steps) this.#move(this.#active < 0 ? 0 : this.#active + steps[event.key]);
    else if (event.key in ends) this.#move(ends[event.key]);
    else if (event.key === 'Enter' && this.active) this.#onOpen?.(this.active);
    else return;
    event.preventDefault();
  }

  #move(index) {
    if (this.#shown.length === 0) return;
    this.#active = Math.max(0, Math.min(index, this.#shown.length - 1));
    this.#activeKey = this.#keyOf(this.#shown[this.#active]);
    this.#reveal();
  }

  #reveal() {
    if (this.#active >= 0) {
      const top = this.#active * this.#height;
      const { scrollTop, clientHeight } = this.#body;
      if (top < scrollTop) this.#body.scrollTop = top;
      else if (top + this.#height > scrollTop + clientHeight) this.#body.scrollTop = top + this.#height - clientHeight;
    }
    this.#plan();
  }
}
