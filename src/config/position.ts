/** Where in a YAML text a key stands. Looked for only when there is an error to tell. */
import type { Event } from 'js-yaml';
import { yaml } from './packaged.ts';
import type { KeyPath } from './shape.ts';

type Level = { readonly kind: 'mapping' | 'sequence'; index: number; key: string | undefined };

/** 1-based line of the key or list entry at `path`, or of the nearest one above it that is there; undefined for none. */
export function lineOf(text: string, path: KeyPath): number | undefined {
  const { EVENT_ID, getScalarValue, parseEvents } = yaml();
  const wanted = path.map(String);
  const levels: Level[] = [];
  let best: { depth: number; offset: number } | undefined;
  const here = () => levels.map(l => (l.kind === 'sequence' ? String(l.index) : (l.key ?? '')));
  const note = (offset: number) => {
    const now = here();
    if (now.length <= wanted.length && now.every((part, i) => part === wanted[i]) && now.length > (best?.depth ?? 0))
      best = { depth: now.length, offset };
  };

  for (const event of parseEvents(text, {})) {
    const parent = levels.at(-1);
    if (event.type === EVENT_ID.POP) {
      const closed = levels.pop();
      const above = levels.at(-1);
      if (closed && above?.kind === 'mapping') above.key = undefined;
      continue;
    }
    if (event.type === EVENT_ID.DOCUMENT) continue;
    if (parent?.kind === 'mapping' && parent.key === undefined) {
      parent.key = event.type === EVENT_ID.SCALAR ? getScalarValue(text, event) : '';
      note(offsetOf(event));
      if (event.type === EVENT_ID.SCALAR) continue;
    } else if (parent?.kind === 'sequence') {
      parent.index++;
      note(offsetOf(event));
    }
    if (event.type === EVENT_ID.MAPPING) levels.push({ kind: 'mapping', index: -1, key: undefined });
    else if (event.type === EVENT_ID.SEQUENCE) levels.push({ kind: 'sequence', index: -1, key: undefined });
    else if (parent?.kind === 'mapping') parent.key = undefined;
  }
  return best === undefined ? undefined : text.slice(0, best.offset).split('\n').length;
}

function offsetOf(event: Event): number {
  const { EVENT_ID } = yaml();
  switch (event.type) {
    case EVENT_ID.SCALAR:
      return event.valueStart;
    case EVENT_ID.MAPPING:
    case EVENT_ID.SEQUENCE:
      return event.start;
    case EVENT_ID.ALIAS:
      return event.anchorStart;
    default:
      return 0;
  }
}
