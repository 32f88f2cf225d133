/** How much of an image is its own, and how much it has together with others: by where its blocks lie, read from nowhere. */
import { closeSync, constants, openSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { isErrno, isNodeErrno } from '../kernel/errno.ts';
import { fileExtents } from '../kernel/fiemap.ts';
import { entries } from './clone.ts';
import { layout } from './layout.ts';
import { listTemplates, type TemplateWithUse } from './templates.ts';

export type Shares = { readonly exclusiveBytes: number; readonly sharedBytes: number };
export type TemplateSharing = TemplateWithUse & {
  readonly image: Shares;
  /** Of all its snapshots together, as far as they were looked at. */
  readonly taken: Shares & { readonly measured: number };
};

/** The event loop is not held up for longer. */
const TURN_MS = 3;
/** With many thousands of snapshots the rest is left aside. */
const MOST_MS = 5000;

/** Nothing is synced: what a mount has not written yet counts as its own. */
export async function listSharing(poolDir: string, signal: AbortSignal): Promise<readonly TemplateSharing[]> {
  const at = layout(poolDir);
  const until = performance.now() + MOST_MS;
  let turn = performance.now();
  const rest = async () => {
    signal.throwIfAborted();
    if (performance.now() - turn < TURN_MS) return;
    await nextTurn();
    turn = performance.now();
  };
  const found: TemplateSharing[] = [];
  for (const template of listTemplates({ poolDir })) {
    await rest();
    const taken = { exclusiveBytes: 0, sharedBytes: 0, measured: 0 };
    for (const id of entries(at.snapshotDir(template.name))) {
      if (performance.now() > until) break;
      await rest();
      const shares = sharesOf(at.snapshot(`${template.name}/${id}`));
      if (!shares) continue;
      taken.exclusiveBytes += shares.exclusiveBytes;
      taken.sharedBytes += shares.sharedBytes;
      taken.measured++;
    }
    found.push({ ...template, image: sharesOf(template.path) ?? { exclusiveBytes: 0, sharedBytes: 0 }, taken });
  }
  return found;
}

/** Undefined: it has just gone, or its file system does not tell. */
export function sharesOf(path: string): Shares | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (isNodeErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  try {
    let [exclusiveBytes, sharedBytes] = [0, 0];
    for (const extent of fileExtents(fd, path, { sync: false })) {
      if (extent.shared) sharedBytes += extent.count;
      else exclusiveBytes += extent.count;
    }
    return { exclusiveBytes, sharedBytes };
  } catch (error) {
    if (isErrno(error, 'ENOTSUP', 'EOPNOTSUPP', 'ENOTTY')) return undefined;
    throw error;
  } finally {
    closeSync(fd);
  }
}
