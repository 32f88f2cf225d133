/** The same job as it is done without shiftvol: clone the image, mount it, give every file away. */
import { mkdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { output } from './agent.ts';

export type OldWay = { readonly cloneMs: number; readonly mountMs: number; readonly chownMs: number };

/** On a clone of its own beside `image`, on the same file system; gone afterwards. */
export async function chownEverything(
  image: string,
  options: { readonly beside: string; readonly owner: number; readonly signal: AbortSignal },
): Promise<OldWay> {
  const { beside, owner, signal } = options;
  const clone = join(beside, 'clone.img');
  const point = join(beside, 'clone');
  const timed = async (file: string, ...args: readonly string[]) => {
    const began = performance.now();
    await output(file, args, signal);
    return performance.now() - began;
  };
  await using undo = new AsyncDisposableStack();
  mkdirSync(point, { mode: 0o700 });
  undo.defer(() => rmdirSync(point));
  undo.defer(() => unlinkSync(clone));
  const cloneMs = await timed('cp', '--reflink=always', image, clone);
  const mountMs = await timed('mount', '-o', 'loop,nodev,nosuid', clone, point);
  undo.defer(async () => void (await output('umount', [point], new AbortController().signal)));
  const chownMs = await timed('chown', '-hR', `${owner}:${owner}`, point);
  return { cloneMs, mountMs, chownMs };
}
