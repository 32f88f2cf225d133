/**
 * The agent in its pod's conditions: the image of deploy/Dockerfile, run by runc with the capabilities, mounts, propagation, seccomp profile
 * and devices of the rendered DaemonSet, beside a real LXD. Minutes: `npm run test:deploy`, not part of `npm test`.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMapping } from '../../rig/manifests.ts';
import { ownCapabilities } from '../../rig/pod.ts';
import { makePodWorld, type PodWorld } from './pod-world.ts';

let world: PodWorld;
before(async () => {
  world = await makePodWorld();
});
after(async () => {
  await world?.[Symbol.asyncDispose]();
});

/** A root that is in a container itself may lack some (SYS_RESOURCE, often): those cannot be given on, and are missing in every test here. */
const HERE = ownCapabilities().map(name => name.replace('CAP_', ''));
const importTree = (name: string) => [
  'template',
  'import',
  name,
  '--from',
  join(world.stateDir, 'tree'),
  '--fs',
  'xfs',
];

describe('the image', () => {
  test('has no npm, no compiler and no package lists, and is nobody’s by default', t => {
    for (const path of [
      'usr/local/bin/npm',
      'usr/bin/gcc',
      'usr/bin/cc',
      'opt/shiftvol/node_modules/typescript',
      'build',
      'opt/shiftvol/src',
    ])
      assert.equal(existsSync(join(world.image.rootfs, path)), false, path);
    const { config } = world.image;
    assert.ok(isMapping(config));
    assert.equal(config['User'], '42424:42424');
    const mib = Math.round(world.image.sizeBytes / 2 ** 20);
    t.diagnostic(`${mib} MiB, built in ${Math.round(world.image.buildMs / 1000)} s`);
    assert.ok(mib < 450, `${mib} MiB`);
  });
});

describe('the pod', () => {
  test('its preflight finds all that is needed', () => {
    const { status, stdout } = world.pod().run('preflight');

    assert.equal(status, 0, stdout);
    assert.match(stdout, /ok {4}idmapped-mounts/);
  });

  test('what the agent mounts in it is the host’s, and outlives the pod, stopped or killed', async () => {
    const first = await world.agent();
    first.do(...importTree('web'));
    first.do('attach', 'c1', 'web:/mnt/web', '--snapshot');

    assert.equal(await world.lxd.sh('c1', 'stat -c "%u %g %a" /mnt/web/hello'), '1000 1000 6755');
    const mounted = world.mounts();
    assert.ok(
      mounted.some(point => point.includes('/run/volumes/')),
      mounted.join(' '),
    );
    await first.stop('TERM');
    assert.deepEqual(world.mounts(), mounted);
    await world.lxd.sh('c1', 'echo one > /mnt/web/written; sync');

    const second = await world.agent();
    assert.match(second.do('list'), /c1:?\s*\/mnt\/web|\/mnt\/web/);
    await second.stop('KILL');
    assert.deepEqual(world.mounts(), mounted);
    assert.equal(await world.lxd.sh('c1', 'cat /mnt/web/written'), 'one');

    const third = await world.agent();
    third.do('detach', 'c1:/mnt/web');
    assert.deepEqual(world.mounts(), [join(world.stateDir, 'pool')]);
    await third.stop();
  });

  test('without the host’s devices it fails with doctor’s words: the pod has to be privileged, or needs a plugin', () => {
    const { status, stdout } = world.pod().run('preflight', { devices: false });

    assert.equal(status, 5);
    assert.match(stdout, /FAIL {2}loop .*EPERM.*loop-control/);
  });

  test('a privileged one keeps in its processes only the capabilities of the list', async () => {
    const agent = await world.agent({}, 'privileged');
    try {
      // The first child of the container's own process tree is the agent: setpriv has become it.
      const status = agent.container.exec([
        '/bin/sh',
        '-c',
        'for p in /proc/[0-9]*; do if tr "\\0" " " < $p/cmdline 2>/dev/null | grep -q "dist/cli/main.js serve" && [ "$(readlink $p/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ]; then grep -E "CapBnd|CapEff|NoNewPrivs" $p/status; fi; done',
      ]);
      const bits = (name: string) =>
        BigInt(`0x${new RegExp(`${name}:\\s*([0-9a-f]+)`).exec(status.stdout)?.[1] ?? '0'}`);
      const wanted = LISTED.filter(({ name }) => HERE.includes(name)).reduce((sum, { bit }) => sum | (1n << bit), 0n);
      assert.equal(bits('CapBnd').toString(16), wanted.toString(16), status.stdout + status.stderr);
      assert.equal(bits('CapEff').toString(16), wanted.toString(16));
      assert.match(status.stdout, /NoNewPrivs:\s*1/);
    } finally {
      await agent.stop();
    }
  });
});

describe('what has no rights', () => {
  const NOBODY = 'rabbit://user:password@127.0.0.1:1/';

  test('a router runs as nobody on a read-only root, waits for its broker, and ends when it is told to', async () => {
    const router = world.unprivileged('Deployment', NOBODY).start('router');
    for (let attempt = 0; attempt < 100 && !router.output.includes('ready') && router.running; attempt++)
      await sleep(200);

    assert.match(router.output, / ready /);
    assert.match(
      router.exec(['/bin/sh', '-c', 'id -u; grep CapBnd /proc/1/status; touch /x']).stdout,
      /42424\nCapBnd:\s*0+\n/,
    );
    await router.stop('TERM');
    assert.match(router.output, /stopping: SIGTERM/);
    assert.doesNotMatch(router.output, /password/);
  });

  test('the test hook fails where the broker cannot be reached, and says so', () => {
    const { status, stdout, stderr } = world.unprivileged('Pod', NOBODY).run('test');

    assert.equal(status, 1, stderr);
    assert.equal(stderr, '');
    assert.match(stdout, /true host\.configuration/);
    assert.match(stdout, /false bus\./);
  });
});

/** The chart's list, and what fails without each. "attach": refused by the kernel, too. "doctor": what is needed for later, as naming holders. */
const LISTED = [
  { name: 'CHOWN', bit: 0n, effect: 'import' },
  { name: 'DAC_OVERRIDE', bit: 1n, effect: 'doctor' },
  { name: 'DAC_READ_SEARCH', bit: 2n, effect: 'doctor' },
  { name: 'FOWNER', bit: 3n, effect: 'import' },
  { name: 'FSETID', bit: 4n, effect: 'setgid' },
  { name: 'LINUX_IMMUTABLE', bit: 9n, effect: 'immutable' },
  { name: 'SETFCAP', bit: 31n, effect: 'doctor' },
  { name: 'SETGID', bit: 6n, effect: 'attach' },
  { name: 'SETUID', bit: 7n, effect: 'attach' },
  { name: 'SYS_ADMIN', bit: 21n, effect: 'attach' },
  { name: 'SYS_CHROOT', bit: 18n, effect: 'detach' },
  { name: 'SYS_PTRACE', bit: 19n, effect: 'doctor' },
  { name: 'SYS_RESOURCE', bit: 24n, effect: 'warning' },
  { name: 'SYSLOG', bit: 34n, effect: 'warning' },
] as const;
const EFFECTS: Readonly<Record<string, string>> = {
  attach: 'an attach is refused',
  detach: 'a detach is refused, and done by the next agent that has it',
  import: 'a tree is not imported',
  setgid: 'an imported tree loses its setgid bits',
  immutable: 'a template can be written to',
};
const NEEDED = ['attach', 'detach', 'doctor'];

describe('each capability of the chart is there for something', () => {
  test('the table here and the chart’s list are the same', () => {
    const capabilities = world.pod().capabilities('agent');

    assert.deepEqual(capabilities, LISTED.map(({ name }) => name).toSorted());
  });

  for (const { name, effect } of LISTED)
    test(`without ${name} doctor says so, and ${NEEDED.includes(effect) ? 'the pod does not start' : 'what is missed'}`, () => {
      const { status, stdout } = world.pod().run('preflight', { without: [name] });

      assert.match(stdout, new RegExp(`CAP_${name}\\b`));
      assert.equal(status, NEEDED.includes(effect) ? 5 : 0);
    });

  for (const { name, effect } of LISTED.filter(c =>
    ['attach', 'detach', 'import', 'setgid', 'immutable'].includes(c.effect),
  ))
    test(`without ${name} ${EFFECTS[effect]}`, async () => {
      const template = name.toLowerCase().replaceAll('_', '-');
      const agent = await world.agent({ without: [name] });
      try {
        if (effect === 'attach') {
          assert.notEqual(agent.ask('attach', 'c1', `web:/mnt/${template}`, '--snapshot').status, 0);
          return;
        }
        if (effect === 'detach') {
          agent.do('attach', 'c1', `web:/mnt/${template}`, '--snapshot');
          const refused = agent.ask('detach', `c1:/mnt/${template}`);
          assert.match(refused.stderr, /setns .*EPERM/);
          await agent.stop();
          const { status, stderr } = world.pod().run('agent', { args: ['detach', `c1:/mnt/${template}`] });
          assert.ok(status === 0 || status === 3, stderr);
          assert.deepEqual(world.mounts(), [join(world.stateDir, 'pool')]);
          return;
        }
        const imported = agent.ask(...importTree(template));
        if (effect === 'import') assert.match(imported.stderr, /Operation not permitted/);
        const image = join(world.stateDir, 'pool/templates', template, 'image');
        if (effect === 'immutable') {
          assert.match(agent.container.exec(['/usr/bin/lsattr', image]).stdout, /^-+ /);
          assert.match(agent.container.exec(['/usr/bin/lsattr', image.replace(template, 'web')]).stdout, /^-*i/);
        }
        if (effect === 'setgid') {
          agent.do('attach', 'c1', `${template}:/mnt/${template}`, '--snapshot');
          assert.equal(await world.lxd.sh('c1', `stat -c %a /mnt/${template}/hello`), '4755');
          agent.do('detach', `c1:/mnt/${template}`);
        }
      } finally {
        await agent.stop();
      }
    });
});
