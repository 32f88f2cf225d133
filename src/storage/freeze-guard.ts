/**
 * A process of its own that freezes file systems and thaws them again, whatever becomes of the one that asked: a freeze outlives its
 * maker. It is there before anything is frozen, and thaws when it is told to, at the deadline, or when its standard input ends, which the
 * kernel sees to when the parent dies. It holds the mounts by descriptors 3, 4, …, inherited; argv: deadline in milliseconds, their paths.
 *
 * Lines, out: `ready`; `frozen MS`, or `failed JSON`; then `thawed MS` or `expired MS`. In: `freeze`, `thaw`.
 */
import { writeSync } from 'node:fs';
import { KernelError } from '../kernel/errno.ts';
import { freezeFileSystem, syncFileSystem, thawFileSystem } from '../kernel/freeze.ts';

const [deadline, ...paths] = process.argv.slice(2);
const deadlineMs = Number(deadline);
const mounts = paths.map((path, i) => ({ path, fd: 3 + i }));
/** What writing out may take of the deadline, since all that is written meanwhile waits. */
const SYNC_SHARE = 0.5;
/** By us, in this order: what somebody else had frozen before stays so. */
const frozen: { readonly path: string; readonly fd: number }[] = [];
let frozenAt: number | undefined;

/** A parent that has died reads nothing: that must not keep us from thawing. */
function tell(line: string): void {
  try {
    writeSync(1, `${line}\n`);
  } catch {
    // Nobody is there.
  }
}

function freeze(): void {
  try {
    // Once for what has gathered, without anybody waiting for it; once more to see how long the rest takes.
    for (const { fd, path } of mounts) syncFileSystem(fd, path);
    const started = performance.now();
    for (const { fd, path } of mounts) syncFileSystem(fd, path);
    requireQuick(performance.now() - started, deadlineMs * SYNC_SHARE);
    frozenAt = performance.now();
    for (const mount of mounts) {
      freezeFileSystem(mount.fd, mount.path);
      frozen.push(mount);
    }
    const tookMs = performance.now() - frozenAt;
    requireQuick(tookMs, deadlineMs);
    setTimeout(() => end('expired'), deadlineMs - tookMs);
    tell(`frozen ${tookMs}`);
  } catch (error) {
    if (error instanceof TooSlow) end(`failed ${JSON.stringify({ syncMs: error.tookMs })}`);
    else if (error instanceof KernelError)
      end(`failed ${JSON.stringify({ call: error.call, errno: error.errnoName, path: error.object })}`);
    else throw error;
  }
}

class TooSlow extends Error {
  readonly tookMs: number;
  constructor(tookMs: number) {
    super();
    this.tookMs = Math.round(tookMs);
  }
}

function requireQuick(tookMs: number, limitMs: number): void {
  if (tookMs > limitMs) throw new TooSlow(tookMs);
}

/** Thaws, the last first, says how it ended, and ends. */
function end(how: string): void {
  let status = 0;
  for (const { fd, path } of frozen.toReversed()) {
    // One that does not thaw must not keep the others frozen; the parent, or recover, tries again.
    try {
      thawFileSystem(fd, path);
    } catch {
      status = 1;
    }
  }
  const frozenMs = frozenAt === undefined ? 0 : performance.now() - frozenAt;
  tell(how.startsWith('failed') ? how : `${how} ${frozenMs}`);
  process.exit(status);
}

// A stop of the service, or Ctrl-C, goes to the parent too: it is the one to end us.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);

let heard = '';
process.stdin.setEncoding('utf8');
process.stdin.on('data', (text: string) => {
  heard += text;
  if (heard.includes('thaw')) end('thawed');
  else if (frozenAt === undefined && heard.includes('freeze')) freeze();
});
process.stdin.on('end', () => end('thawed'));
process.stdin.on('error', () => end('thawed'));
tell('ready');
