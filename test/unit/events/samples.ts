/** Real notifications, and what becomes of one in a few words. */
import { readFileSync } from 'node:fs';
import { schema } from '../../../src/config/schema.ts';
import type { Translation } from '../../../src/events/translate.ts';

export const samples = new URL('../../fixtures/notifications/', import.meta.url);
export const bindings = (given: object = {}) =>
  schema({ bindings: { volumes: [{ volume: '*', device: '/dev/disk/by-id/{volume_id}' }], ...given } }, []).bindings;
export const read = (file: string) => JSON.parse(readFileSync(new URL(file, samples), 'utf8'));
/** As the notifier sends it: the context's keys with a prefix. */
export const asSent = (sample: { context?: object }) => {
  const { context, ...rest } = sample;
  return { ...rest, ...Object.fromEntries(Object.entries(context ?? {}).map(([k, v]) => [`_context_${k}`, v])) };
};
export const short = (t: Translation) => {
  if (t.kind === 'ignored') return t.reason;
  if (t.kind === 'invalid') return `invalid: ${t.reason}`;
  const { action, instance, ...rest } = t.command;
  const ids = 'volumeId' in rest && rest.volumeId ? ` ${rest.volumeId.slice(0, 8)}` : '';
  return `${action} ${instance.ref.slice(0, 8)}${ids}`;
};
