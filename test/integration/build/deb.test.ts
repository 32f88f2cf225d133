/** The Debian package: what is in it, and what it does to a host when it comes, is upgraded and goes. More: integration/deploy/packages.ts. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Plan } from '../../../src/engine/model.ts';
import { Store } from '../../../src/store/journal.ts';
import { builtCheckout, type Checkout, type MinimalRoot, minimalRoot } from '../../rig/package.ts';

let checkout: Checkout;
let root: MinimalRoot | undefined;
let first: string;
let second: string;

before(() => {
  checkout = builtCheckout();
  const build = (...args: readonly string[]) =>
    checkout.run('node', 'build/deb.ts', '--compression', 'none', ...args).trim();
  first = build();
  second = build('--version', '0.1.1');
  root = minimalRoot(['kmod', 'libstdc++6', 'mount']);
  if (root) for (const path of [first, second]) copyFileSync(path, join(root.path, basename(path)));
});
after(async () => {
  await root?.[Symbol.asyncDispose]();
  await checkout?.[Symbol.asyncDispose]();
});

/** What the script printed; it must have ended well, or, with `fails`, not. */
async function inside(script: string, { fails = false } = {}): Promise<string> {
  const { status, output } = (await root?.run(script)) ?? assert.fail();
  assert.equal(status !== 0, fails, output);
  return output;
}
/** Every file that there is, but for those of dpkg itself and of mount(8). */
const FILES = `find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /var/lib/dpkg -o -path /var/log -o -path /tmp -o -path /run/mount \\) -prune -o -print | sort`;

test('it has what a package has, with owners and modes, and no more than runs', () => {
  const list = execFileSync('dpkg-deb', ['-c', first], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  const control = execFileSync('dpkg-deb', ['-I', first], { encoding: 'utf8' });

  for (const path of [
    '-rw------- root/root .* ./etc/shiftvol/plugin.yaml',
    '-rwxr-xr-x root/root .* ./usr/lib/shiftvol/node_modules/node/bin/node',
    '-rw-r--r-- root/root .* ./lib/systemd/system/shiftvol.service',
    '-rw-r--r-- root/root .* ./lib/udev/rules.d/59-shiftvol.rules',
    '-rw-r--r-- root/root .* ./usr/lib/tmpfiles.d/shiftvol.conf',
    '-rw-r--r-- root/root .* ./usr/share/man/man1/shiftvol-attach.1.gz',
    '-rw-r--r-- root/root .* ./usr/share/bash-completion/completions/shiftvol',
    'lrwxrwxrwx root/root .* ./usr/bin/shiftvol -> ../lib/shiftvol/bin/shiftvol',
  ])
    assert.match(list, new RegExp(`^${path}$`, 'm'));
  assert.doesNotMatch(list, /node_modules\/(?:typescript|@biomejs|fast-check)|\.d\.ts$/m);
  assert.match(control, /^ Architecture: (?:amd64|arm64)$/m);
});

test('it is installed, runs, is upgraded under what is mounted, and goes without a trace', async t => {
  if (!root) return t.skip('mmdebstrap, or a mirror for it, is missing');
  const before = await inside(FILES);

  const installed = await inside(
    `dpkg -i /${basename(first)} >/dev/null && shiftvol --version && stat -c '%a %U %n' /etc/shiftvol/plugin.yaml /var/lib/shiftvol /run/shiftvol`,
  );
  assert.equal(
    installed,
    '0.1.0\n600 root /etc/shiftvol/plugin.yaml\n700 root /var/lib/shiftvol\n711 root /run/shiftvol\n',
  );
  const { output } = await root.run('shiftvol doctor --json');
  const { checks }: { checks: { check: string; ok: unknown; detail: string }[] } = JSON.parse(output);
  assert.equal(checks.find(c => c.check === 'host.configuration')?.detail, '/etc/shiftvol/plugin.yaml');
  assert.equal(checks.find(c => c.check === 'kernel.mount-calls')?.ok, true);

  writeFileSync(join(root.path, 'etc/shiftvol/plugin.yaml'), 'parallel: 3\n');
  const upgraded = await inside(
    `mkdir -p /run/shiftvol/volumes/x && mount -t tmpfs ours /run/shiftvol/volumes/x && cat /proc/self/mountinfo > /tmp/before &&
     dpkg -i --force-confold /${basename(second)} >/dev/null && cat /proc/self/mountinfo > /tmp/after && cmp /tmp/before /tmp/after &&
     cat /etc/shiftvol/plugin.yaml && dpkg-query -W -f '\${Version}\\n' shiftvol && shiftvol list --json`,
  );
  assert.equal(upgraded, 'parallel: 3\n0.1.1\n[]\n');

  const purged = await inside('dpkg --purge shiftvol 2>&1; rm -f /etc/subuid- /etc/subgid-');
  assert.match(purged, /Purging configuration files for shiftvol/);
  assert.match(purged, /^shiftvol: kept: root's lines /m);
  const [was, is] = [new Set(before.split('\n')), new Set((await inside(FILES)).split('\n'))];
  assert.deepEqual([...was.symmetricDifference(is)], []);
});

test('a purge is refused while something is attached, and says what to do', async t => {
  if (!root) return t.skip('mmdebstrap, or a mirror for it, is missing');
  const stateDir = join(root.path, 'var/lib/shiftvol');
  await inside(`dpkg -i /${basename(first)}`);
  mkdirSync(stateDir, { recursive: true });
  {
    const plan = {
      id: 'a',
      instance: 'c1',
      ref: { ref: 'c1' },
      target: '/mnt',
      image: { kind: 'file', path: '/x' },
      idmap: [],
    };
    using store = new Store({ stateDir, lockTimeoutMs: 0, outbox: false });
    store.begin(plan as unknown as Plan, {}); // what the list shows of it is enough
  }

  const removed = await inside('dpkg --remove shiftvol 2>&1');
  const refused = await inside('dpkg --purge shiftvol 2>&1', { fails: true });

  assert.match(removed, /containers still have volumes attached/);
  assert.match(refused, /Cannot purge: containers have volumes in \/var\/lib\/shiftvol/);
  assert.ok(statSync(join(stateDir, 'journal.db')).isFile());
  rmSync(join(stateDir, 'journal.db'));
  await inside(`dpkg -i /${basename(first)} && dpkg --purge shiftvol`);
  assert.ok(!existsSync(stateDir));
});

test('a purge is refused while something of ours is mounted', async t => {
  if (!root) return t.skip('mmdebstrap, or a mirror for it, is missing');
  const refused = await inside(
    `dpkg -i /${basename(first)} && mkdir -p /run/shiftvol/volumes/x && mount -t tmpfs ours /run/shiftvol/volumes/x && ! dpkg --purge shiftvol 2>&1 && test -d /run/shiftvol/volumes/x`,
  );
  assert.match(refused, /something is mounted below \/run\/shiftvol/);
  await inside('dpkg --purge shiftvol');
});
