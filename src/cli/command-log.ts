import type { Log } from '../log/log.ts';
import type { GlobalOptions } from './command.ts';

/** What a command's own parts log: warnings, and with --verbose all. */
export async function commandLog(options: GlobalOptions): Promise<Log> {
  const { createLog, logOptions } = await import('../log/log.ts');
  return createLog(logOptions({ level: 'warn', format: null }, options));
}
