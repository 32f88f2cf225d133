/** The few ways in which this page makes elements. None of them reads markup. */

/** `properties` are the element's own; `aria-…`, `role` and `data-…` are attributes. Children are elements or text. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name === 'class') element.className = value;
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'role' || name.includes('-')) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter(child => child !== undefined && child !== null));
  return element;
}

/** Writes only what is otherwise: an unchanged text costs no layout. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Calls `work` once in the next frame, however often it is asked to; and, hidden or not, in a while. */
export function coalesced(work, restMs = 0) {
  let planned = false;
  let last = Number.NEGATIVE_INFINITY;
  const run = () => {
    planned = false;
    last = performance.now();
    work();
  };
  return () => {
    if (planned) return;
    planned = true;
    const wait = last + restMs - performance.now();
    if (wait > 0) setTimeout(run, wait);
    else if (document.hidden) setTimeout(run, 250);
    else requestAnimationFrame(run);
  };
}

/** A list of what is known of something. */
export function facts(pairs) {
  return el(
    'dl',
    { class: 'facts' },
    ...pairs
      .filter(([, value]) => value !== undefined && value !== null && value !== '')
      .flatMap(([name, value]) => [
        el('dt', {}, name),
        el('dd', {}, typeof value === 'string' ? el('bdi', {}, value) : value),
      ]),
  );
}
