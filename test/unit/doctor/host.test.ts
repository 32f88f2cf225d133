import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { hostChecks } from '../../../src/doctor/host.ts';

const base = mkdtempSync(join(tmpdir(), 'shiftvol-unit-'));
chmodSync(base, 0o755);
after(() => rmSync(base, { recursive: true }));
let made = 0;

const ALL_CAPABILITIES = '000001ffffffffff';
type Facts = { caps?: string; user?: string; pid?: string; nofile?: string; namespaces?: string; mounts?: string };

function fakeProc(facts: Facts = {}): string {
  const proc = join(base, `proc${made++}`);
  for (const dir of ['self/ns', 'sys/user', 'sys/fs']) mkdirSync(join(proc, dir), { recursive: true });
  writeFileSync(join(proc, 'self/status'), `Name:\tnode\nCapEff:\t${facts.caps ?? ALL_CAPABILITIES}\n`);
  writeFileSync(join(proc, 'self/limits'), `Max open files            ${facts.nofile ?? '65536'}   65536   files\n`);
  writeFileSync(join(proc, 'sys/user/max_user_namespaces'), `${facts.namespaces ?? '90000'}\n`);
  writeFileSync(join(proc, 'sys/fs/mount-max'), `${facts.mounts ?? '100000'}\n`);
  symlinkSync(facts.user ?? 'user:[4026531837]', join(proc, 'self/ns/user'));
  symlinkSync(facts.pid ?? 'pid:[4026531836]', join(proc, 'self/ns/pid'));
  return proc;
}

const look = (name: string, facts: Facts, roots = join(base, 'run/roots')) =>
  hostChecks(roots, fakeProc(facts)).find(c => c.check === name);

test('a host with everything has nothing to say', () => {
  assert.deepEqual(
    hostChecks(join(base, 'run/roots'), fakeProc()).filter(c => c.ok !== true),
    [],
  );
});

test('missing capabilities are named', () => {
  const withoutAdmin = (BigInt(`0x${ALL_CAPABILITIES}`) & ~(1n << 21n)).toString(16);

  const found = look('host.capabilities', { caps: withoutAdmin });

  assert.equal(found?.ok, false);
  assert.equal(found?.detail, 'missing: CAP_SYS_ADMIN');
});

for (const [what, name, facts, ok] of [
  ['CAP_SYSLOG alone is no more than worth a look', 'host.capabilities', { caps: '000001fbffffffff' }, 'warn'],
  ['another user namespace cannot do', 'host.namespaces', { user: 'user:[4026532000]' }, false],
  ['another pid namespace cannot do', 'host.namespaces', { pid: 'pid:[4026532001]' }, false],
  ['no user namespaces at all cannot do', 'limits.user-namespaces', { namespaces: '0' }, false],
  ['few user namespaces are worth a look', 'limits.user-namespaces', { namespaces: '64' }, 'warn'],
  ['few mounts are worth a look', 'limits.mounts', { mounts: '100' }, 'warn'],
  ['few open files are worth a look', 'limits.open-files', { nofile: '1024' }, 'warn'],
  ['unlimited open files are fine', 'limits.open-files', { nofile: 'unlimited' }, true],
] as const)
  test(what, () => {
    const found = look(name, facts);
    assert.equal(found?.ok, ok);
    if (ok !== true) assert.notEqual(found?.remedy, undefined);
  });

test('a closed directory on the way to the root file systems is named', () => {
  const closed = join(base, 'closed');
  mkdirSync(join(closed, 'run'), { recursive: true });
  chmodSync(closed, 0o700);

  const found = look('host.path-to-roots', {}, join(closed, 'run/roots'));

  assert.equal(found?.ok, 'warn');
  assert.equal(found?.remedy, `chmod o+x ${closed}`);
});
