/** plugin.yaml for editors: JSON Schema made of the readers, with the comments of the packaged file as descriptions. */
import { readFileSync } from 'node:fs';
import { PACKAGED_CONFIG } from './packaged.ts';
import { lineOf } from './position.ts';
import { schema } from './schema.ts';
import { type JsonSchema, jsonSchemaOf, type KeyPath } from './shape.ts';

/** Takes some hundred milliseconds: each key is looked up in the file. */
export function pluginJsonSchema(): JsonSchema {
  const text = readFileSync(PACKAGED_CONFIG, 'utf8');
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'plugin.yaml of shiftvol',
    ...described(jsonSchemaOf(schema), [], text),
  };
}

function described(node: JsonSchema, path: KeyPath, text: string): JsonSchema {
  const { properties, items } = node;
  const comment = path.length === 0 ? undefined : commentAt(text, path);
  return {
    ...node,
    ...(isMapping(properties) && {
      properties: Object.fromEntries(
        Object.entries(properties).map(([key, below]) => [
          key,
          isMapping(below) ? described(below, [...path, key], text) : below,
        ]),
      ),
    }),
    // Of a list the first entry is where the comments are.
    ...(isMapping(items) && isMapping(items['properties']) && { items: described(items, [...path, 0], text) }),
    ...(comment !== undefined && { description: comment }),
  };
}

/** The lines of comment directly above a key. */
function commentAt(text: string, path: KeyPath): string | undefined {
  const lines = text.split('\n');
  const at = (lineOf(text, path) ?? 0) - 1;
  const key = path.at(-1);
  // What is nearest stands for what is not there: then nothing is said.
  if (typeof key !== 'string' || !(lines[at] ?? '').replace(/^[\s-]*/, '').startsWith(key)) return undefined;
  const above: string[] = [];
  for (let i = at - 1; i >= 0; i--) {
    const comment = /^\s*#(?: ?)(?!--)(.*)$/.exec(lines[i] ?? '')?.[1];
    if (comment === undefined) break;
    above.unshift(comment);
  }
  return above.length === 0 ? undefined : above.join('\n');
}

const isMapping = (value: unknown): value is JsonSchema =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
