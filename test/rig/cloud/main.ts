/** By hand: `node test/rig/cloud/main.ts up|down|purge`. `up` starts all but nova-compute, which needs the agents. */
import { Cloud } from './cloud.ts';

const [action = 'up'] = process.argv.slice(2);
const begun = Date.now();
const say = (text: string) => console.error(`${((Date.now() - begun) / 1000).toFixed(1).padStart(6)} s  ${text}`);

switch (action) {
  case 'up':
    console.log((await Cloud.up({}, say)).openrc);
    break;
  case 'down':
    await Cloud.at().down();
    break;
  case 'purge':
    await Cloud.at().purge();
    break;
  default:
    console.error(`Cannot do "${action}": up, down and purge are accepted`);
    process.exitCode = 2;
}
