/**
 * The runtime wants a range of root's in /etc/subuid and /etc/subgid, and shiftvol one of its own in that. Added where they are missing,
 * and exactly what was added is taken out by the last one who needs it.
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { open } from '../../src/kernel/fd.ts';
import { tryLock } from '../../src/kernel/file-lock.ts';

const FILES = ['/etc/subuid', '/etc/subgid'] as const;
const ENTRIES = ['root:100000:10000001', 'shiftvol:1048576:8388608'] as const;
const STATE = '/run/shiftvol-rig-subids.json';
const LOCK = '/run/shiftvol-rig-subids.lock';

type Added = { readonly file: string; readonly entry: string };
/** Who needs the entries, as `pid-random`, and what all of them together added. Several test files run at once. */
type State = { readonly users: readonly string[]; readonly added: readonly Added[] };

/** `more`: entries of other owners, for further hosts on this machine; within root's. */
export function needSubids(more: readonly string[] = []): Disposable {
  const me = `${process.pid}-${Math.random().toString(36).slice(2)}`;
  locked(() => {
    const { users, added } = readState();
    const missing = FILES.flatMap(file =>
      [...ENTRIES, ...more].filter(entry => !has(file, entry)).map(entry => ({ file, entry })),
    );
    // What will be done first, so that the next one knows it whatever happens to us.
    writeState({ users: [...users, me], added: [...added, ...missing] });
    for (const { file, entry } of missing) write(file, [...read(file), entry]);
  });
  return { [Symbol.dispose]: () => locked(() => leave(me)) };
}

function leave(me: string): void {
  const { users, added } = readState();
  const left = users.filter(user => user !== me && existsSync(`/proc/${user.split('-')[0]}`));
  if (left.length > 0) {
    writeState({ users: left, added });
    return;
  }
  for (const file of FILES) {
    const ours = added.filter(a => a.file === file).map(a => a.entry);
    if (ours.length > 0)
      write(
        file,
        read(file).filter(line => !ours.includes(line)),
      );
  }
  rmSync(STATE, { force: true });
}

function has(file: string, entry: string): boolean {
  const owner = entry.slice(0, entry.indexOf(':') + 1);
  return read(file).some(line => line.startsWith(owner));
}

/** The lock's file stays: who removed it would let two in. */
function locked(work: () => void): void {
  using file = open(LOCK, 'a', 0o600);
  const pause = new Int32Array(new SharedArrayBuffer(4));
  while (!tryLock(file.fd, 'exclusive', LOCK)) Atomics.wait(pause, 0, 0, 5);
  work();
}

function readState(): State {
  return existsSync(STATE) ? JSON.parse(readFileSync(STATE, 'utf8')) : { users: [], added: [] };
}

function writeState(state: State): void {
  writeFileSync(`${STATE}.next`, JSON.stringify(state));
  renameSync(`${STATE}.next`, STATE);
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
