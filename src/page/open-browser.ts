/** Starts a person's browser. The link does not go into anybody's arguments, which all users of the host may read. */
import { spawn } from 'node:child_process';

/** As the person who called sudo; the file is readable for him alone, and is gone when the browser has read it. */
const SCRIPT =
  'umask 077; f=$(mktemp -p "$XDG_RUNTIME_DIR" --suffix=.html) || exit; trap \'rm -f "$f"\' EXIT; cat > "$f"; xdg-open "$f" || exit; sleep "$KEEP_S"';

/** Whether one could be asked to open it: there is a display, and xdg-open. It runs on by itself. `keepSeconds`: for a browser to read the file. */
export async function openBrowser(
  url: string,
  { env = process.env, keepSeconds = 15 }: { readonly env?: NodeJS.ProcessEnv; readonly keepSeconds?: number } = {},
): Promise<boolean> {
  if (!env['DISPLAY'] && !env['WAYLAND_DISPLAY']) return false;
  const [uid, gid] = [env['SUDO_UID'], env['SUDO_GID']].map(text => (/^\d{1,10}$/.test(text ?? '') ? Number(text) : 0));
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const child = spawn('sh', ['-c', SCRIPT], {
    env: { ...env, XDG_RUNTIME_DIR: env['XDG_RUNTIME_DIR'] ?? '/tmp', KEEP_S: `${keepSeconds}` },
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    ...(uid && gid && { uid, gid }),
  });
  child.once('error', () => resolve(false));
  child.once('exit', code => resolve(code === 0));
  child.stdin.on('error', () => undefined).end(documentThatLeadsTo(url));
  // What fails fails at once.
  setTimeout(() => resolve(true), 1000).unref();
  child.unref();
  return await promise;
}

const documentThatLeadsTo = (url: string): string =>
  `<!doctype html><meta charset="utf-8"><title>shiftvol</title><meta http-equiv="refresh" content="0;url=${url.replace(/[&"<>]/g, c => `&#${c.charCodeAt(0)};`)}">\n`;
