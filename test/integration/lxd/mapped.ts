/** A directory of the host mounted a second time with a map, as the mount code does it with a volume. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mountSetIdmap, moveMount, openTreeClone, umount2 } from '../../../src/kernel/mount.ts';
import { createUserNamespace } from '../../../src/kernel/userns.ts';

export type MappedDir = Disposable & { readonly source: string; readonly path: string };

/** On disk a file of 0, one of 1000 and one of 70000 (outside the map); `hostStart` is what 0-65535 are shown as. */
export function mappedDir(hostStart: number): MappedDir {
  const dir = mkdtempSync('/tmp/shiftvol-mapped-');
  const source = join(dir, 'disk');
  const path = join(dir, 'mounted');
  mkdirSync(source);
  mkdirSync(path);
  for (const owner of [0, 1000, 70000]) {
    writeFileSync(join(source, `of-${owner}`), `${owner}\n`);
    execFileSync('chown', [`${owner}:${owner}`, join(source, `of-${owner}`)]);
  }
  const map = `0 ${hostStart} 65536\n`;
  using tree = openTreeClone(source);
  using userns = createUserNamespace({ uid: map, gid: map });
  mountSetIdmap(tree.fd, userns.fd);
  moveMount(tree.fd, path);
  return {
    source,
    path,
    [Symbol.dispose]() {
      umount2(path, { lazy: false });
      rmdirSync(path);
      rmSync(dir, { recursive: true });
    },
  };
}

/** The host's mounts that have one of these paths in them: other tests mount and unmount at the same time. */
export function mountsAt(...paths: readonly string[]): readonly string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.filter(line => paths.some(path => line.includes(path)));
}
