/** The service manager that started us, if one did: it is told when we are ready, that we live, and that we are ending. */
import type { Log } from '../log/log.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export type Supervisor = Disposable & {
  /**
   * What was asked for can be asked now. From here on the watchdog is fed, by the event loop itself: one that hangs is found out, and so is a
   * process that `ill` says something of.
   */
  ready(status: string, ill?: () => string | undefined): void;
  stopping(): void;
};

const NOBODY: Supervisor = { ready: () => {}, stopping: () => {}, [Symbol.dispose]: () => {} };

/** Takes $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID out of the environment: what we start is no service. @see sd_notify(3) */
export async function supervisor(log: Log, env: Environment & NodeJS.ProcessEnv = process.env): Promise<Supervisor> {
  const address = env['NOTIFY_SOCKET'];
  const intervalMs = watchdogMs(env);
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
  if (!address) return NOBODY;
  const { notify } = await import('../kernel/notify.ts');
  const tell = (text: string) => {
    try {
      notify(address, text);
    } catch (error) {
      // Nothing that we do depends on it; a manager that heard nothing ends us by itself.
      log.warn('the service manager cannot be told', { error: String(error) });
    }
  };
  let timer: NodeJS.Timeout | undefined;
  return {
    ready(status, ill = () => undefined) {
      tell(`READY=1\nSTATUS=${status}`);
      const feed = () => {
        const why = ill();
        tell(why === undefined ? 'WATCHDOG=1' : `STATUS=${why}`);
      };
      if (intervalMs !== undefined) timer = setInterval(feed, intervalMs).unref();
    },
    stopping: () => tell('STOPPING=1'),
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

/** Half of what is allowed, as sd_watchdog_enabled(3) advises. */
function watchdogMs(env: Environment): number | undefined {
  const allowedUs = Number(env['WATCHDOG_USEC']);
  const forUs = env['WATCHDOG_PID'] === undefined || Number(env['WATCHDOG_PID']) === process.pid;
  return forUs && Number.isSafeInteger(allowedUs) && allowedUs > 0 ? allowedUs / 2000 : undefined;
}
