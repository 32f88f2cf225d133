/** What a host that fetches is given to read: a snapshot for each fetch, and of the first pass the one that is kept. */
import type { Engine } from '../engine/engine.ts';
import type { Attachment } from '../engine/model.ts';
import { showTemplate } from '../storage/templates.ts';
import { type HeaderOptions, headerOf } from './facts.ts';
import type { FirstPasses } from './first-passes.ts';
import type { Pool } from './incoming.ts';
import type { Have, Lend } from './listener.ts';
import type { Sendable } from './send.ts';

export type LendDeps = {
  readonly pool: Pool;
  readonly engine: Pick<Engine, 'snapshots'>;
  readonly passes: FirstPasses;
};

/** The last pass is read of what stands still anyway, and nothing is left where nobody comes. */
export function lendFrom({ pool, engine, passes }: LendDeps): Lend {
  return async ({ attachment: id, pass }, have, signal) => {
    if (pass === 'first') {
      const kept = passes.fetching(id);
      const sendable = sendableOf(pool, kept.attachment, kept.path, have, { last: false });
      return { sendable, [Symbol.asyncDispose]: async () => kept[Symbol.dispose]() };
    }
    const image = await engine.snapshots.borrow({ instance: { ref: id } }, { signal });
    const first = passes.find(id);
    const since = first && have.versions.has(first.version) ? first.path : undefined;
    const sendable = sendableOf(pool, image.attachment, image.path, have, { last: true, ...(since && { since }) });
    return { sendable, [Symbol.asyncDispose]: () => image[Symbol.asyncDispose]() };
  };
}

function sendableOf(
  pool: Pool,
  { plan }: Attachment,
  image: string,
  { templates }: Have,
  { since, last }: Omit<HeaderOptions, 'withTemplate'>,
): Sendable {
  const template = showTemplate(pool, plan.source.kind === 'template' ? plan.source.template : '');
  const withTemplate = since === undefined && !templates.has(template.sha256);
  const options = { withTemplate, last, ...(since !== undefined && { since }) };
  const header = headerOf({ ...plan, instance: plan.ref }, template, image, options);
  const { path } = template;
  return { header, image, before: since ?? path, ...(withTemplate && { template: path }) };
}
