/** The commands of deploy/README.md, by the name that stands above each block, with the places of a test in the place of the host's own. */
import { readDocument } from './markdown.ts';

/** `<!-- back up -->` and the block below it. */
const NAMED = /^<!-- ([a-z ]+) -->\n```sh\n(.*?)```$/gms;

export function deployBlocks(): ReadonlyMap<string, string> {
  const text = readDocument('deploy/README.md');
  const named = new Map([...text.matchAll(NAMED)].map(([, name = '', block = '']) => [name, block]));
  const all = text.match(/^```sh$/gm)?.length;
  if (named.size !== all)
    throw new Error(`deploy/README.md: ${all} blocks of commands, ${named.size} have a name of their own`);
  return named;
}

/** @throws there is no such block, or what is to be replaced is not in any */
export function deployBlock(name: string, places: Readonly<Record<string, string>> = {}): string {
  const block = deployBlocks().get(name);
  if (block === undefined) throw new Error(`deploy/README.md has no block "${name}"`);
  return Object.entries(places).reduce((script, [from, to]) => script.replaceAll(from, to), block);
}
