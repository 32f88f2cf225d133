/**
 * The few shapes our pictures are made of. A picture brings its own background and colours for light and for dark, and needs no font,
 * script or file from elsewhere: a forge shows it as it is. Texts are set for the width of common sans-serif fonts, with some room.
 */

type Ink = 'text' | 'quiet' | 'ours' | 'peer' | 'line' | 'box';
/** Contrast of each against its background: 4.5 at least for what is text. */
const LIGHT = {
  back: '#ffffff',
  text: '#1f2328',
  quiet: '#59636e',
  ours: '#0a6b4b',
  peer: '#b3261e',
  line: '#8c959f',
  box: '#f3f5f7',
};
const DARK = {
  back: '#0d1117',
  text: '#e6edf3',
  quiet: '#9aa4af',
  ours: '#4cc38a',
  peer: '#ff8a7a',
  line: '#6e7781',
  box: '#1b222b',
};

const FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'Liberation Sans', Arial, sans-serif";
const MONO = "ui-monospace, SFMono-Regular, Menlo, 'Liberation Mono', monospace";

type Picture = { readonly width: number; readonly height: number; readonly title: string; readonly says: string };

/** `says` is what the picture shows, for who cannot see it. */
export function svg({ width, height, title, says }: Picture, shapes: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="t d">
<title id="t">${escaped(title)}</title>
<desc id="d">${escaped(says)}</desc>
<style>
text { font: 14px ${FONT}; }
.mono { font-family: ${MONO}; font-size: 12.5px; }
.small { font-size: 12.5px; }
.strong { font-weight: 600; }
${rules(LIGHT)}
@media (prefers-color-scheme: dark) {
${rules(DARK)}
}
</style>
<rect class="back" width="${width}" height="${height}" rx="8"/>
${shapes.join('\n')}
</svg>
`;
}

function rules(colours: typeof LIGHT): string {
  const { back, line, box, ...inks } = colours;
  return [
    `.back { fill: ${back}; }`,
    `.box { fill: ${box}; stroke: ${line}; }`,
    `.line { stroke: ${line}; fill: none; }`,
    `.line-fill { fill: ${line}; }`,
    ...Object.entries(inks).map(
      ([name, colour]) => `.${name} { fill: ${colour}; } .${name}-line { stroke: ${colour}; fill: none; }`,
    ),
  ].join('\n');
}

type Say = {
  readonly ink?: Ink;
  readonly anchor?: 'start' | 'middle' | 'end';
  /** Of the text: `mono`, `small`, `strong`. */
  readonly style?: string;
};

export function text(
  x: number,
  y: number,
  words: string,
  { ink = 'text', anchor = 'start', style = '' }: Say = {},
): string {
  return `<text x="${x}" y="${y}" class="${`${ink} ${style}`.trim()}" text-anchor="${anchor}">${escaped(words)}</text>`;
}

export function box(x: number, y: number, width: number, height: number): string {
  return `<rect class="box" x="${x}" y="${y}" width="${width}" height="${height}" rx="6"/>`;
}

/** A line through points; `dashed` for what is only compared. */
export function line(ink: Ink, points: readonly (readonly [number, number])[], dashed = false): string {
  const name = ink === 'line' ? 'line' : `${ink}-line`;
  const path = points.map(([x, y], i) => `${i === 0 ? 'M' : 'L'}${x} ${y}`).join(' ');
  const width = ink === 'line' ? 1 : 2.5;
  return `<path class="${name}" d="${path}" stroke-width="${width}"${dashed ? ' stroke-dasharray="3 4"' : ''}/>`;
}

export function dot(ink: Ink, x: number, y: number): string {
  return `<circle class="${ink}" cx="${x}" cy="${y}" r="4"/>`;
}

/** Straight, with its head at the second point; along one axis only. */
export function arrow(ink: Ink, [x1, y1]: readonly [number, number], [x2, y2]: readonly [number, number]): string {
  const name = ink === 'line' ? 'line' : `${ink}-line`;
  const [dx, dy] = [Math.sign(x2 - x1), Math.sign(y2 - y1)];
  const [bx, by] = [x2 - dx * 9, y2 - dy * 9];
  const head = `M${x2} ${y2} L${bx - dy * 5} ${by - dx * 5} L${bx + dy * 5} ${by + dx * 5} Z`;
  return `<path class="${name}" d="M${x1} ${y1} L${bx} ${by}" stroke-width="1.8"/><path class="${ink === 'line' ? 'line-fill' : ink}" d="${head}"/>`;
}

function escaped(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
