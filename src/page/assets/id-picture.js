/** A picture of the host ids: a lane for each kind of claim, overlaps in red. Only what is in sight is drawn, and no two things on one pixel. */

export const LANES = [
  { name: 'ours', title: 'shiftvol', says: 'instances of shiftvol' },
  { name: 'runtime', title: 'containers', says: 'configured containers of LXD, Incus, LXC' },
  { name: 'live', title: 'alive', says: 'user namespaces that are alive' },
  { name: 'subid', title: 'subuid', says: 'entries of /etc/subuid and /etc/subgid' },
];
const ALL = 2 ** 32;
const LEAST_SPAN = 16;
const TOP = 26;
const LANE = 44;
const BAR = 26;
const LEFT = 88;
export const PICTURE_HEIGHT = TOP + LANE * LANES.length + 6;

export class IdPicture {
  canvas;
  #context;
  #claims = [];
  #start = 0;
  #span = ALL;
  #touched = false;
  #chosen;
  #planned = false;
  #onHover;
  #onView;

  /** @param {{canvas: HTMLCanvasElement, onHover: (claim: any) => void, onChoose: (claim: any) => void, onView: (view: {start: number, span: number}) => void}} options */
  constructor({ canvas, onHover, onChoose, onView }) {
    this.canvas = canvas;
    this.#context = canvas.getContext('2d');
    this.#onHover = onHover;
    this.#onView = onView;
    new ResizeObserver(() => this.#plan()).observe(canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#plan());
    let dragged;
    canvas.addEventListener('wheel', event => this.#onWheel(event), { passive: false });
    canvas.addEventListener('pointerdown', event => {
      dragged = { x: event.clientX, start: this.#start, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointermove', event => {
      if (!dragged) return this.#onHover(this.#at(event));
      const by = event.clientX - dragged.x;
      dragged.moved ||= Math.abs(by) > 3;
      if (dragged.moved) this.show(dragged.start - (by / this.#width) * this.#span, this.#span);
    });
    canvas.addEventListener('pointerup', event => {
      if (dragged && !dragged.moved) onChoose(this.#at(event));
      dragged = undefined;
    });
    canvas.addEventListener('pointercancel', () => {
      dragged = undefined;
    });
    canvas.addEventListener('pointerleave', () => this.#onHover(undefined));
    canvas.addEventListener('keydown', event => this.#onKey(event));
  }

  /** In the order of their first ids. */
  set claims(claims) {
    this.#claims = claims;
    if (!this.#touched) this.fit();
    this.#plan();
  }

  /** The claim that is framed. */
  set chosen(claim) {
    this.#chosen = claim;
    this.#plan();
  }

  /** All that instances, containers and namespaces have. */
  fit() {
    const used = this.#claims.filter(claim => claim.lane !== 'subid');
    const these = used.length > 0 ? used : this.#claims;
    if (these.length === 0) return this.#set(0, ALL);
    const start = Math.min(...these.map(c => c.start));
    const end = Math.max(...these.map(c => c.start + c.count));
    const margin = Math.max(LEAST_SPAN, (end - start) * 0.04);
    this.#set(start - margin, end - start + 2 * margin);
  }

  whole() {
    this.show(0, ALL);
  }

  /** With as much around it as it has itself. */
  zoomTo({ start, count }) {
    this.show(start - count, count * 3);
  }

  zoom(factor, at = 0.5) {
    const span = Math.max(LEAST_SPAN, Math.min(ALL, this.#span * factor));
    this.show(this.#start + (this.#span - span) * at, span);
  }

  show(start, span) {
    this.#touched = true;
    this.#set(start, span);
  }

  #set(start, span) {
    this.#span = Math.max(LEAST_SPAN, Math.min(ALL, span));
    this.#start = Math.max(0, Math.min(ALL - this.#span, start));
    this.#onView({ start: this.#start, span: this.#span });
    this.#plan();
  }

  get #width() {
    return Math.max(1, this.canvas.clientWidth - LEFT - 8);
  }

  #x(id) {
    return LEFT + ((id - this.#start) / this.#span) * this.#width;
  }

  #onWheel(event) {
    event.preventDefault();
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.show(this.#start + ((event.deltaX || event.deltaY) / this.#width) * this.#span, this.#span);
      return;
    }
    const at = Math.max(0, Math.min(1, (event.offsetX - LEFT) / this.#width));
    this.zoom(Math.exp(Math.max(-120, Math.min(120, event.deltaY)) / 300), at);
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = this.#span * (event.shiftKey ? 0.5 : 0.1);
    const acts = {
      ArrowLeft: () => this.show(this.#start - step, this.#span),
      ArrowRight: () => this.show(this.#start + step, this.#span),
      ArrowUp: () => this.zoom(0.7),
      ArrowDown: () => this.zoom(1 / 0.7),
      '+': () => this.zoom(0.7),
      '=': () => this.zoom(0.7),
      '-': () => this.zoom(1 / 0.7),
      0: () => this.fit(),
      Home: () => this.whole(),
    };
    if (!(event.key in acts)) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }

  /** The smallest claim under the pointer. */
  #at({ offsetX, offsetY }) {
    const lane = LANES[Math.floor((offsetY - TOP) / LANE)];
    if (!lane || offsetX < LEFT) return undefined;
    let found;
    for (const claim of this.#claims) {
      if (claim.lane !== lane.name) continue;
      const [from, to] = [this.#x(claim.start), this.#x(claim.start + claim.count)];
      if (offsetX >= from - 2 && offsetX <= Math.max(to, from + 2) && (!found || claim.count < found.count))
        found = claim;
    }
    return found;
  }

  #plan() {
    if (this.#planned) return;
    this.#planned = true;
    requestAnimationFrame(() => {
      this.#planned = false;
      this.#draw();
    });
  }

  #draw() {
    const { canvas } = this;
    const ratio = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, PICTURE_HEIGHT];
    if (width === 0) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const styles = getComputedStyle(canvas);
    const color = name => styles.getPropertyValue(`--${name}`).trim();
    const c = this.#context;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    c.font = `12px ${styles.fontFamily}`;
    c.textBaseline = 'middle';
    this.#drawRuler(c, color, width);
    for (const [i, lane] of LANES.entries()) this.#drawLane(c, color, lane, TOP + i * LANE, width);
  }

  #drawRuler(c, color, width) {
    const step = niceStep((this.#span / this.#width) * 110);
    c.fillStyle = color('quiet');
    c.strokeStyle = color('line');
    c.lineWidth = 1;
    c.textAlign = 'center';
    for (let id = Math.ceil(this.#start / step) * step; id <= this.#start + this.#span; id += step) {
      const x = Math.round(this.#x(id)) + 0.5;
      c.beginPath();
      c.moveTo(x, TOP - 6);
      c.lineTo(x, PICTURE_HEIGHT);
      c.stroke();
      if (x > LEFT + 26 && x < width - 30) c.fillText(shortId(id, step), x, 10);
    }
    c.textAlign = 'left';
  }

  #drawLane(c, color, lane, top, width) {
    c.fillStyle = color('text');
    c.fillText(lane.title, 8, top + LANE / 2);
    const y = top + (LANE - BAR) / 2;
    c.fillStyle = color('track');
    c.fillRect(LEFT, y, width - LEFT - 8, BAR);
    c.save();
    c.beginPath();
    c.rect(LEFT, 0, width - LEFT - 8, PICTURE_HEIGHT);
    c.clip();
    const paint = color(`lane-${lane.name}`);
    let drawnTo = Number.NEGATIVE_INFINITY;
    for (const claim of this.#claims) {
      if (claim.lane !== lane.name) continue;
      const [from, to] = [this.#x(claim.start), this.#x(claim.start + claim.count)];
      if (to < LEFT || from > width) continue;
      // Thousands of them on few pixels are one block.
      if (to <= drawnTo + 0.25 && !claim.clashes && !this.#isChosen(claim)) continue;
      drawnTo = Math.max(drawnTo, to);
      const size = Math.max(1, to - from);
      c.fillStyle = paint;
      c.fillRect(from, y, size, BAR);
      if (size > 4) {
        c.fillStyle = color('surface');
        c.fillRect(from, y, 1, BAR);
      }
    }
    // On top of all of their neighbours.
    for (const claim of this.#claims)
      if (claim.lane === lane.name && claim.clashes) this.#drawClashes(c, color, claim, y, width);
    for (const claim of this.#claims) if (claim.lane === lane.name) this.#drawLabel(c, color, claim, y, width);
    const chosen = this.#claims.find(claim => claim.lane === lane.name && this.#isChosen(claim));
    if (chosen) {
      c.strokeStyle = color('text');
      c.lineWidth = 2;
      c.strokeRect(this.#x(chosen.start), y - 3, Math.max(3, (chosen.count / this.#span) * this.#width), BAR + 6);
    }
    c.restore();
  }

  #isChosen(claim) {
    const chosen = this.#chosen;
    return chosen?.lane === claim.lane && chosen.start === claim.start && chosen.count === claim.count;
  }

  /** Up to where somebody else begins. */
  #drawLabel(c, color, claim, y, width) {
    const from = this.#x(claim.start);
    const end = Math.min(claim.start + claim.count, ...(claim.clashes ?? []).map(clash => clash.start));
    if (from > width || (claim.count / this.#span) * this.#width < 45) return;
    const left = Math.max(from, LEFT) + 5;
    const room = Math.min(this.#x(end), width) - left - 5;
    if (room < 40) return;
    const text =
      claim.label.length > room / 6.6
        ? `${claim.label.slice(0, Math.max(1, Math.floor(room / 6.6) - 1))}…`
        : claim.label;
    c.fillStyle = color('on-lane');
    c.fillText(text, left, y + BAR / 2);
  }

  /** Red, and hatched: not by the colour alone. */
  #drawClashes(c, color, claim, y, width) {
    for (const { start, count } of claim.clashes) {
      const from = Math.max(LEFT - 10, this.#x(start));
      const to = Math.min(width + 10, Math.max(this.#x(start + count), this.#x(start) + 3));
      if (to < LEFT || from > width) continue;
      c.save();
      c.beginPath();
      c.rect(from, y, to - from, BAR);
      c.clip();
      c.fillStyle = color('bad');
      c.fillRect(from, y, to - from, BAR);
      c.strokeStyle = color('on-bad');
      c.lineWidth = 1.5;
      for (let x = from - BAR; x < to; x += 7) {
        c.beginPath();
        c.moveTo(x, y + BAR);
        c.lineTo(x + BAR, y);
        c.stroke();
      }
      c.restore();
    }
  }
}

/** 1, 2 or 5 times a power of ten, or 65536 times one of two, whatever is next above. */
function niceStep(least) {
  if (least >= 16_384 && least <= 65_536) return 65_536;
  const power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return [1, 2, 5, 10].map(n => n * power).find(step => step >= least) ?? power * 10;
}

function shortId(id, step) {
  if (step >= 1_000_000_000) return `${id / 1_000_000_000} G`;
  if (step >= 1_000_000) return `${Math.round(id / 1_000_000)} M`;
  return String(id);
}
