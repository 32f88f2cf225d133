/** What every process of the host could read of the programs that ours start: their arguments; and what those inherit: their environment. */
import { readdirSync, readFileSync } from 'node:fs';

export type Watch = Disposable & {
  /** Command lines of shiftvol and of all below it; environments of what is below it. */
  readonly seen: ReadonlySet<string>;
};

const EVERY_MS = 3;

/** `main`: shiftvol's, among the arguments of each child of ours that is one. From now on, until it is disposed of. */
export function watchProcesses(main: string): Watch {
  const seen = new Set<string>();
  /** Below shiftvol. The command line is read first: before its exec a program has those of its parent, both of them. */
  const look = (pid: string): void => {
    const command = read(pid, 'cmdline');
    seen.add(command);
    if (!command.includes(main)) seen.add(`${command}: ${read(pid, 'environ')}`);
    for (const child of childrenOf(pid)) look(child);
  };
  const timer = setInterval(() => {
    for (const child of childrenOf(String(process.pid))) if (read(child, 'cmdline').includes(main)) look(child);
  }, EVERY_MS);
  return { seen, [Symbol.dispose]: () => clearInterval(timer) };
}

/** Of all threads: a worker starts programs, too. */
function childrenOf(pid: string): readonly string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap(thread =>
      read(`${pid}/task/${thread}`, 'children').split(' ').filter(Boolean),
    );
  } catch {
    return []; // it has ended meanwhile
  }
}

function read(pid: string, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return ''; // it has ended meanwhile
  }
}
