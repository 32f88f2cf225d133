import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import type { FsType } from '../../src/engine/model.ts';
import { mountPrivately, waitUnused } from '../../src/storage/private-mount.ts';

/**
 * Everything that a file system says of its files, as it stands on disk (no map): name, type, owner, mode, size, times, contents, ACLs
 * and other extended attributes, file capabilities. The image must not be mounted elsewhere any more.
 */
export async function digestOnDisk(
  image: string,
  fsType: FsType,
): Promise<{ digest: string; lines: readonly string[] }> {
  let text: string;
  // A container that starts just now, of another test, has a copy of this namespace's mounts for a moment.
  await waitUnused(image);
  {
    using mount = await mountPrivately(image, { fsType, readOnly: true });
    text = inMount(mount.fd, [
      `find . -path ./lost+found -prune -o -printf '%p %y %m %U:%G %s %T@ %C@ %l\\n' | sort`,
      'find . -path ./lost+found -prune -o -type f -print0 | sort -z | xargs -0 -r sha256sum',
      'find . -path ./lost+found -prune -o -print0 | sort -z | xargs -0 -r getfattr --absolute-names -h -d -m - -e hex 2>/dev/null || true',
    ]);
  }
  await waitUnused(image);
  return { digest: createHash('sha256').update(text).digest('hex'), lines: text.split('\n') };
}

/** Runs shell lines (of the test, never of anybody else) in the root directory of a mount that has no path. */
export function inMount(fd: number, lines: readonly string[]): string {
  return execFileSync('sh', ['-ec', `cd /proc/self/fd/3/\n${lines.join('\n')}`], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit', fd],
    maxBuffer: 2 ** 28,
  });
}
