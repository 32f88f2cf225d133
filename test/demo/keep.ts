/** `--keep`: everything stays up until `--end`, and the commands to play with are told. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Scene } from './acts.ts';
import { novaNote } from './nova.ts';
import { IDS, TARGET, TEMPLATE } from './stage.ts';

const EMIT = fileURLToPath(new URL('../rig/oslo/emit.py', import.meta.url));

export async function waitKept({ show, stage, signal }: Scene, goAlone: () => void): Promise<void> {
  const { work, config, lxd, rabbit, agentLog } = stage;
  const file = (sample: string) => {
    const path = join(work, `${sample}.json`);
    writeFileSync(path, `${JSON.stringify(novaNote(sample, IDS, `req-${crypto.randomUUID()}`))}\n`);
    return path;
  };
  const [attach, detach] = [file('instance-volume_attach-end'), file('instance-volume_detach-start')];
  const env = `sudo env SHIFTVOL_CONFIG=${config}`;
  show.act('It is all yours');
  show.block('to look and to play', [
    `${env} npm run --silent shiftvol -- list`,
    `${env} npm run --silent shiftvol -- attach ${IDS.name} ${TEMPLATE}:/mnt/more --snapshot`,
    `${env} npm run --silent shiftvol -- doctor`,
    `sudo env ${lxd.runtime.dirVariable}=${lxd.dir} ${lxd.runtime.client} exec ${IDS.name} -- ls -ln ${TARGET}`,
    `sudo tail -f ${agentLog}`,
  ]);
  show.block('to speak as Nova does (each file once: the same request twice is done once)', [
    `/usr/bin/python3 ${EMIT} --url ${rabbit.url} < ${detach}`,
    `/usr/bin/python3 ${EMIT} --url ${rabbit.url} < ${attach}`,
  ]);
  show.block('to end it', ['npm run demo -- --end']);
  await new Promise<void>(resolve => process.send?.('kept', undefined, undefined, () => resolve()));
  goAlone();
  await new Promise<void>(resolve => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
