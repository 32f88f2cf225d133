/** `template import --from attachment:…`: a snapshot that is taken for the import, or one that was saved before. */
import type { Saved } from '../engine/snapshots.ts';
import type { AttachmentView } from '../http/view.ts';
import type { ImportRequest } from '../storage/import/request.ts';
import type { GlobalOptions } from './command.ts';
import { callEngine } from './engine-client.ts';
import { parsePlace } from './volume-argument.ts';

const PREFIX = 'attachment:';
const NOTHING: Disposed = { async [Symbol.asyncDispose]() {} };
type Disposed = AsyncDisposable;
export type AttachmentSource = AsyncDisposable & { readonly request: ImportRequest };

/**
 * The request with a file in the place of `attachment:ID[@SNAPSHOT]` or `attachment:INSTANCE:TARGET[@SNAPSHOT]`; any other as it is.
 * Disposing removes what was saved for it. A dry run saves nothing, and tells the image itself.
 */
export async function openAttachmentSource(
  options: GlobalOptions & { readonly dryRun?: boolean },
  request: ImportRequest,
): Promise<AttachmentSource> {
  if (!request.from.startsWith(PREFIX)) return { request, ...NOTHING };
  const [, text = '', snapshot] = /^(.*?)(?:@([^@/]+))?$/.exec(request.from.slice(PREFIX.length)) ?? [];
  const { instance: ref, target } = parsePlace(text);
  const place = { instance: { ref }, target };
  // The base is a fact of the attachment. An instance that gave its root directory to another user must not make it another one.
  const fromSaved = ({ path, idBase }: Saved): ImportRequest => ({
    ...(idBase !== undefined && { idBase }),
    ...request,
    from: path,
    format: 'raw',
  });
  if (snapshot !== undefined) {
    const found = await callEngine(options, { command: 'snapshot.find', ...place, name: snapshot });
    return { request: fromSaved(found as Saved), ...NOTHING };
  }
  const { importName } = await import('../storage/saved.ts');
  const name = importName();
  if (options.dryRun === true) {
    await callEngine(options, { command: 'snapshot.create', ...place, name, dryRun: true });
    const [found] = (await callEngine(options, {
      command: 'show',
      instance: ref,
      target,
    })) as readonly AttachmentView[];
    return { request: { ...request, from: found?.image ?? request.from, format: 'raw' }, ...NOTHING };
  }
  const saved = (await callEngine(options, { command: 'snapshot.create', ...place, name })) as Saved;
  return {
    request: fromSaved(saved),
    async [Symbol.asyncDispose]() {
      await callEngine(options, { command: 'snapshot.remove', instance: { ref: saved.attachment }, name });
    },
  };
}
