/**
 * The Debian package in whole systems, Debian 12 and 13: installed by the commands of deploy/README.md, read by man, mandoc, the shells and
 * systemd, upgraded while something is mounted, removed without a trace; and what "by hand" says. Minutes: `npm run test:deploy`.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { deployBlock } from '../../rig/deploy-blocks.ts';
import { builtCheckout, type Checkout, type MinimalRoot, minimalRoot } from '../../rig/package.ts';

const SUITES = ['bookworm', 'trixie'] as const;
/** What the package needs, and what reads what is in it. */
const PACKAGES = [
  ...['kmod', 'libstdc++6', 'mount', 'e2fsprogs', 'xfsprogs', 'systemd', 'udev'],
  ...['man-db', 'groff', 'mandoc', 'bash-completion', 'zsh', 'fish'],
];
/** All files, but those of dpkg, apt, systemd, man-db and mount(8) themselves. */
const FILES =
  'find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -path /var/lib/systemd -o -path /var/lib/apt -o -path /tmp -o -path /run/mount -o -path /run/systemd -o -name "sub[ug]id*" \\) -prune -o -print | sort; ls -d /var/cache/shiftvol 2>/dev/null || true';

let checkout: Checkout;
let first: string;
let second: string;

before(() => {
  checkout = builtCheckout();
  const build = (...args: readonly string[]) =>
    checkout.run('node', 'build/deb.ts', '--compression', 'none', ...args).trim();
  first = build();
  second = build('--version', '99.0.0');
});
after(async () => {
  await checkout?.[Symbol.asyncDispose]();
});

for (const suite of SUITES)
  describe(suite, () => {
    let root: MinimalRoot;
    before(() => {
      const made = minimalRoot(PACKAGES, suite);
      assert.ok(made, `no ${suite}: mmdebstrap, or a mirror for it, is missing`);
      root = made;
      for (const path of [first, second]) copyFileSync(path, join(root.path, basename(path)));
      // In the place of a running systemd, which is not there: the scripts of the package ask for it, and so does README.md.
      writeFileSync(join(root.path, 'usr/local/bin/systemctl'), SYSTEMCTL, { mode: 0o755 });
    });
    after(async () => {
      await root?.[Symbol.asyncDispose]();
    });

    /** What the script printed. */
    async function inside(script: string): Promise<string> {
      const { status, output } = await root.run(`set -e\nexport PATH=/usr/local/bin:$PATH HOME=/tmp\n${script}`);
      assert.equal(status, 0, `${script}\n${output}`);
      return output;
    }
    let before_: string;

    test('the commands of README.md install it, and shiftvol runs', async () => {
      before_ = await inside(FILES);
      const install = deployBlock('by package', { './shiftvol_VERSION_amd64.deb': `/${basename(first)}`, '20G': '2G' });

      const output = await inside(`cd /\n${install}\nshiftvol pool status --json\nshiftvol --version`);

      assert.match(output, /"mounted":true,.*"reflink":true/);
      assert.match(output, /ok +mount-calls/);
      assert.match(output, /\n\d+\.\d+\.\d+\n$/);
      const { checks }: { checks: { check: string; ok: unknown; detail: string }[] } = JSON.parse(
        (await root.run('shiftvol doctor --json')).output,
      );
      for (const check of ['kernel.mount-calls', 'kernel.idmap-ext4', 'kernel.idmap-xfs', 'host.configuration'])
        assert.equal(checks.find(c => c.check === check)?.ok, true, check);
    });

    test('a changed configuration is checked and taken', async () => {
      const output = await inside(`trap 'systemctl stop shiftvol' EXIT
systemctl start shiftvol
${deployBlock('configure')}`);

      assert.match(output, /pid \d+ lives, without a bus/);
    });

    test('man and mandoc read every page without a warning', async () => {
      const output = await inside(
        `for page in /usr/share/man/man1/shiftvol*; do
  man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null
  zcat "$page" | mandoc -T lint -W warning
done
ls /usr/share/man/man1/shiftvol* | wc -l`,
      );

      assert.match(output.trim(), /^\d+$/);
      assert.ok(Number(output) > 20);
    });

    test('bash, zsh and fish load the completion, and it proposes the commands', async () => {
      const output = await inside(`
bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader shiftvol 2>/dev/null || _comp_load shiftvol; complete -p shiftvol'
zsh -c 'autoload -U compinit; compinit -u -d /tmp/zcompdump; echo "$_comps[shiftvol]"'
fish -c 'complete -C "shiftvol det"'`);

      assert.match(output, /complete .*shiftvol\n/);
      assert.match(output, /^_shiftvol$/m);
      assert.match(output, /^detach\b/m);
    });

    test('systemd finds no fault in the units', async () => {
      const output = await inside(
        'for unit in shiftvol shiftvol-route; do systemd-analyze verify /lib/systemd/system/$unit.service 2>&1; systemd-analyze security --offline=true /lib/systemd/system/$unit.service | tail -1; done',
      );

      // What it has to say of other units of a system that has never run is not ours.
      assert.deepEqual(
        output.split('\n').filter(line => /shiftvol/.test(line) && !/exposure level/.test(line)),
        [],
      );
      const levels = [...output.matchAll(/shiftvol(?:-route)?\.service: (\d\.\d)/g)].map(([, level]) => Number(level));
      assert.equal(levels.length, 2);
      assert.ok((levels[0] ?? 9) <= 6.9 && (levels[1] ?? 9) <= 1.4, levels.join(' '));
    });

    test('an upgrade leaves the mounts, the configuration and the journal as they are', async () => {
      const output = await inside(`
shiftvol pool status >/dev/null
mkdir -p /run/shiftvol/volumes/x
mount -t tmpfs ours /run/shiftvol/volumes/x
exec 9>/run/shiftvol/volumes/x/open
echo 'parallel: 3' >/etc/shiftvol/plugin.yaml
shiftvol recover >/dev/null 2>&1 || true
grep shiftvol /proc/self/mountinfo >/tmp/before
dpkg -i --force-confold /${basename(second)} >/dev/null 2>&1
grep shiftvol /proc/self/mountinfo >/tmp/after
cmp /tmp/before /tmp/after
echo written >&9
cat /etc/shiftvol/plugin.yaml /run/shiftvol/volumes/x/open
shiftvol --version
exec 9>&-
umount /run/shiftvol/volumes/x && rmdir /run/shiftvol/volumes/x`);

      assert.match(output, /parallel: 3\nwritten\n\d+\.\d+\.\d+\n$/);
    });

    test('removed by the commands of README.md, nothing of ours is left', async () => {
      const output = await inside(`${deployBlock('remove')}\n${deployBlock('remove the package')}`);

      assert.match(output, /Purging configuration files for shiftvol/);
      assert.match(output, /^shiftvol: kept: root's lines in \/etc\/subuid/m);
      assert.match(await inside('cat /etc/subuid'), /^root:1048576:/m);
      const [was, is] = [new Set(before_.split('\n')), new Set((await inside(FILES)).split('\n'))];
      assert.deepEqual([...is.difference(was)], []);
      assert.deepEqual([...was.difference(is)], []);
      assert.doesNotMatch(await inside('cat /etc/subuid /etc/subgid'), /^shiftvol:/m);
    });
  });

test('lintian finds no fault', () => {
  const { stdout, status } = spawnSync('lintian', ['--no-cfg', first], { encoding: 'utf8' });
  // Who builds it says who he is, in $DEBEMAIL; a release is compressed.
  const faults = stdout
    .split('\n')
    .filter(line => /^[EW]:/.test(line) && !/bogus-mail-host|root-in-contact|uses-no-compression/.test(line));
  assert.notEqual(status, null, 'lintian is not installed');
  assert.deepEqual(faults, []);
});

test('by hand: what README.md says, with npm’s prefix and the host’s directories elsewhere', async () => {
  const root = join(checkout.path, 'by-hand');
  const { version }: { version: string } = JSON.parse(checkout.run('cat', 'package.json'));
  const script = deployBlock('by hand', {
    'shiftvol-VERSION.tgz': `shiftvol-${version}.tgz`,
    'npm install --global': `npm install --global --prefix ${root}/usr --no-audit --no-fund`,
    '/etc/': `${root}/etc/`,
    'shiftvol --version': `env -i PATH=${root}/usr/bin:/usr/bin:/bin shiftvol --version`,
  });

  assert.ok(checkout.run('sh', '-ec', script).endsWith(`\n${version}\n`));

  assert.deepEqual(readdirSync(`${root}/etc`).toSorted(), ['shiftvol', 'systemd', 'tmpfiles.d', 'udev']);
  execFileSync('npm', ['uninstall', '--global', '--prefix', `${root}/usr`, 'shiftvol'], { stdio: 'ignore' });
  assert.ok(!existsSync(`${root}/usr/bin/shiftvol`));
  assert.deepEqual(readdirSync(`${root}/usr/lib/node_modules`), []);
});

const SYSTEMCTL = `#!/bin/sh
pid=/tmp/agent.pid
stop() {
  [ -e "$pid" ] || return 0
  kill "$(cat "$pid")" && while [ -d "/proc/$(cat "$pid")" ]; do sleep 0.1; done
  rm "$pid"
}
start() {
  setsid shiftvol serve </dev/null >/tmp/agent.log 2>&1 &
  echo $! >"$pid"
  for _ in $(seq 100); do shiftvol health >/dev/null 2>&1 && return; sleep 0.1; done
  cat /tmp/agent.log >&2
  return 1
}
case "$1" in
start) start ;;
stop) stop ;;
restart) stop && start ;;
esac
`;
