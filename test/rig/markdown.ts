/** What the tests ask of our documents: their blocks, links and headings. As much of Markdown as we write. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export type Block = { readonly language: string; readonly lines: readonly string[] };

/** `path` is from the checkout's root. */
export function readDocument(path: string): string {
  return readFileSync(`${ROOT}${path}`, 'utf8');
}

/** Fenced blocks, in their order. */
export function blocksOf(text: string): readonly Block[] {
  return [...text.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language = '', body = '']) => ({
    language,
    lines: body.trimEnd().split('\n'),
  }));
}

/** The commands of its `sh` blocks, without comments. */
export function commandsOf(text: string): readonly string[] {
  return blocksOf(text)
    .filter(({ language }) => language === 'sh')
    .flatMap(({ lines }) => lines.map(line => line.replace(/(?:^|\s+)#.*$/, '').trim()))
    .filter(line => line !== '');
}

/** Where links and pictures lead. */
export function linksOf(text: string): readonly string[] {
  return [...prose(text).matchAll(/\]\(([^()\s]+)\)/g)].map(([, to = '']) => to);
}

/** What a link may name after "#": headings as a forge names them, and `<a id>`. */
export function anchorsOf(text: string): ReadonlySet<string> {
  const anchors = new Set([...text.matchAll(/<a id="([^"]+)">/g)].map(([, id = '']) => id));
  for (const [, heading = ''] of prose(text).matchAll(/^#{1,6} (.*)$/gm)) {
    const name = heading
      .replace(/\]\([^)]*\)/g, '')
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-');
    for (let n = 0, free = false; !free; n++) {
      const anchor = n === 0 ? name : `${name}-${n}`;
      free = !anchors.has(anchor);
      anchors.add(anchor);
    }
  }
  return anchors;
}

function prose(text: string): string {
  return text.replace(/^```.*?^```$/gms, '').replace(/`[^`\n]*`/g, code => code.replace(/[[\]()]/g, ''));
}
