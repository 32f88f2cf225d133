/** The plugin.yaml that comes with the package: the manifest, and every key at its default with its explanation. */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

export const PACKAGED_CONFIG = fileURLToPath(new URL('../../plugin.yaml', import.meta.url));

/** `checksum` of the file as it is released; a unit test says what it is when the file was changed, and that it holds the defaults. */
export const PACKAGED_CHECKSUM = 4_193_230_291;

/** Whether the text is that of the release, which says nothing but the defaults: parsing it would take a third of `shiftvol list`. */
export function isAsReleased(text: string): boolean {
  return checksum(text) === PACKAGED_CHECKSUM;
}

/** FNV-1a over the UTF-16 units, 32 bits: enough to see an edit, without loading node:crypto. */
export function checksum(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Loaded when there is something to parse, and no sooner; synchronously, as all that reads the configuration. */
export const yaml = (): typeof import('js-yaml') => createRequire(import.meta.url)('js-yaml');
