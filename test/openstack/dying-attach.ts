/** Attaches a volume of Cinder, and dies (SIGKILL) when the log has a line that fits: `node dying-attach.ts CONFIG PATTERN VOLUME`. */
import { assemble } from '../../src/cli/assemble.ts';
import { loadConfig } from '../../src/config/load.ts';

const [config, pattern = '', volume = ''] = process.argv.slice(2);
const told = (text: string): void => {
  if (new RegExp(pattern).test(text)) process.kill(process.pid, 'SIGKILL');
};
const log = { debug: told, info: told, warn: told, error: told };

await using host = await assemble(loadConfig({ config }), { outbox: false, log });
await host.engine.attachVolume(
  { action: 'attach', instance: { ref: 'c1' }, target: '/mnt/data', readOnly: false, volume },
  new AbortController().signal,
);
