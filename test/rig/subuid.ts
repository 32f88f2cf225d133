/**
 * The runtime wants a range of root's in /etc/subuid and /etc/subgid, and shiftvol one of its own in that. Added where they are missing,
 * and taken out by the last one who needs them.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { isNodeErrno } from '../../src/kernel/errno.ts';

const FILES = ['/etc/subuid', '/etc/subgid'] as const;
const ENTRIES = ['root:100000:10000001', 'shiftvol:1048576:8388608'] as const;
/** One empty file for each user of the entries that we added: several test files run at once. */
const USERS = '/run/shiftvol-rig-subuid';

export function needSubids(): Disposable {
  const missing = FILES.flatMap(file =>
    ENTRIES.filter(entry => !read(file).some(line => line.startsWith(entry.slice(0, entry.indexOf(':') + 1)))).map(
      entry => ({
        file,
        entry,
      }),
    ),
  );
  if (missing.length === 0 && !existsSync(USERS)) return { [Symbol.dispose]() {} };

  mkdirSync(USERS, { recursive: true, mode: 0o700 });
  const me = `${process.pid}-${Math.random().toString(36).slice(2)}`;
  writeFileSync(`${USERS}/${me}`, '');
  for (const { file, entry } of missing) write(file, [...read(file), entry]);
  return { [Symbol.dispose]: () => leave(me) };
}

function leave(me: string): void {
  for (const user of readdirSync(USERS))
    if (user === me || !existsSync(`/proc/${user.split('-')[0]}`)) rmSync(`${USERS}/${user}`, { force: true });
  try {
    rmdirSync(USERS);
  } catch (error) {
    if (isNodeErrno(error, 'ENOTEMPTY', 'ENOENT')) return;
    throw error;
  }
  for (const file of FILES)
    write(
      file,
      read(file).filter(line => !ENTRIES.some(entry => entry === line)),
    );
}

function read(file: string): string[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter(line => line !== '');
}

/** By rename: login tools read these files at any time. */
function write(file: string, lines: readonly string[]): void {
  const next = `${file}.shiftvol-rig`;
  writeFileSync(next, lines.map(line => `${line}\n`).join(''), { mode: 0o644 });
  renameSync(next, file);
}
