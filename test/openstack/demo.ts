/** `npm run demo:openstack`: the small OpenStack with two hosts, left running until Ctrl-C, and six commands to type. */
import { join } from 'node:path';
import { styleText } from 'node:util';
import { Cloud } from '../rig/cloud/cloud.ts';
import { OpenStack } from './world.ts';

const VOLUME = 'data';
const begun = performance.now();
const say = (text: string) => console.log(`${((performance.now() - begun) / 1000).toFixed(1).padStart(6)} s  ${text}`);

const { promise: ended, resolve: end } = Promise.withResolvers<void>();
process.once('SIGINT', () => end()).once('SIGTERM', () => end());

try {
  await play();
} finally {
  say('taking it down');
  await Cloud.at().purge();
}

async function play(): Promise<void> {
  say('bringing up Keystone, Placement, Glance, Cinder, Nova, RabbitMQ, MariaDB, two LXDs and two agents');
  await using stack = await OpenStack.up({ say });
  await stack.formattedVolume(VOLUME);
  console.log(commands(stack).join('\n'));
  await ended;
  await stack.clear();
}

function commands({ cloud, hosts }: OpenStack): readonly string[] {
  const { dir } = cloud.settings;
  const openrc = join(dir, 'openrc');
  const [first, ...others] = hosts;
  if (first === undefined) throw new Error('the cloud has no hosts');
  const { dirVariable, client } = first.lxd.runtime;
  const inLxd = `sudo env ${dirVariable}=${first.lxd.dir} ${client}`;
  const container = '$(openstack server show web -f value -c OS-EXT-SRV-ATTR:instance_name)';
  return [
    '',
    styleText('bold', `In another terminal, after ". ${openrc}":`),
    `  openstack server create --image busybox --flavor t1 --nic none --host ${first.name} --wait web`,
    `  ${inLxd} list -c nsS4`,
    `  openstack server add volume web ${VOLUME}`,
    `  ${inLxd} exec ${container} -- sh -c 'cat /proc/self/uid_map; ls -ln / /mnt/*'`,
    '  openstack server image create --wait --name of-web web',
    '  openstack server delete --wait web',
    '',
    ...[first, ...others].map(host => `${host.name}: ${host.world.dir}`),
    `Logs of the services: ${dir}/log. Ctrl-C ends it all.`,
  ];
}
