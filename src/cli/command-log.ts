import type { Log } from '../log/log.ts';
import type { GlobalOptions } from './command.ts';

/** What a command's own parts log: warnings, and with --verbose all. */
export async function commandLog({ verbose = false, json = false }: GlobalOptions): Promise<Log> {
  const { createLog } = await import('../log/log.ts');
  return createLog({ level: verbose ? 'debug' : 'warn', json });
}
