/** How things read. Whatever comes from a message, an image or a container is hostile text: shown as text, bounded, and with nothing unseen in it. */

/** Control characters, and those that turn the direction of what follows or take no room. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** At most `most` characters of a text, each of which can be seen. */
export function visible(text, most = 200) {
  const whole = String(text);
  const short = whole.length > most ? `${whole.slice(0, most - 1)}…` : whole;
  return short.replace(UNSEEN, c => `‹U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}›`);
}

export function duration(ms) {
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 100) return `${ms.toFixed(1)} ms`;
  if (ms < 10_000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(1)} s`;
}

/** How long ago, by this machine's clock and the host's. */
export function age(iso, now) {
  const seconds = Math.max(0, (now - Date.parse(iso)) / 1000);
  if (!Number.isFinite(seconds)) return '';
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = n;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

const NUMBER = new Intl.NumberFormat('en');
export const number = n => NUMBER.format(n);

/** `1000000–1065535` */
export function range({ start, count }) {
  return count === 1 ? `${start}` : `${start}–${start + count - 1}`;
}

/** Sorts as people do: case aside, and numbers by their value. */
export function sortKey(text) {
  return String(text)
    .slice(0, 200)
    .toLowerCase()
    .replace(/\d+/g, digits => digits.padStart(12, '0'));
}
