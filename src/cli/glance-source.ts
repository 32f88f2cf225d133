/** `--from glance:IMAGE`. */
import type { ImageSource } from '../openstack/image-source.ts';
import type { Format } from '../storage/import/request.ts';
import type { GlobalOptions } from './command.ts';

const PREFIX = 'glance:';

export type OpenedImage = Disposable & { readonly remote?: ImageSource };

/** Looks the image up, where `from` names one; what it opened stays open until it is disposed of. @throws SV_CONFIG; what Glance says */
export async function openGlanceSource(
  options: GlobalOptions,
  { from, format = 'auto' }: { readonly from: string; readonly format?: Format },
  signal: AbortSignal,
): Promise<OpenedImage> {
  if (!from.startsWith(PREFIX)) return { [Symbol.dispose]: () => {} };
  const [{ loadConfig }, { openCloud }, { Glance }, { imageSource }, { commandLog }] = await Promise.all([
    import('../config/load.ts'),
    import('../openstack/open.ts'),
    import('../openstack/glance.ts'),
    import('../openstack/image-source.ts'),
    import('./command-log.ts'),
  ]);
  using stack = new DisposableStack();
  const session = stack.use(openCloud(loadConfig(options).openstack, { log: await commandLog(options) }));
  const glance = new Glance(session);
  const remote = imageSource(glance, await glance.image(from.slice(PREFIX.length), signal), format);
  const kept = stack.move();
  return { remote, [Symbol.dispose]: () => kept.dispose() };
}
