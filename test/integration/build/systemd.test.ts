/** The units: systemd has nothing to complain of, what they say of their exposure is so, and nothing gives the agent a mount namespace. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const UNITS = fileURLToPath(new URL('../../../deploy/systemd/', import.meta.url));
const SRC = fileURLToPath(new URL('../../../src/', import.meta.url));
const skip = !existsSync('/usr/bin/systemd-analyze') && 'systemd-analyze is not installed';

for (const name of ['shiftvol.service', 'shiftvol-route.service'])
  test(`${name} is as exposed as it says, and no more`, { skip }, () => {
    const said = Number(/systemd-analyze security`: (\d\.\d)/.exec(readFileSync(UNITS + name, 'utf8'))?.[1]);
    const { stdout } = spawnSync('systemd-analyze', ['security', '--offline=yes', UNITS + name], { encoding: 'utf8' });
    assert.ok(Number(/exposure level for \S+: (\d\.\d)/.exec(stdout)?.[1]) <= said, stdout.slice(-200));
  });

test('systemd can read them', { skip }, () => {
  const units = ['shiftvol.service', 'shiftvol-route.service'].map(name => UNITS + name);
  const { stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', ...units], { encoding: 'utf8' });
  const told = stderr
    .split('\n')
    .filter(line => /shiftvol/.test(line) && !/is not executable: No such file/.test(line));
  assert.deepEqual(told, []);
});

test('the agent stays in the mount namespace of the host, and ends alone', () => {
  const unit = readFileSync(`${UNITS}shiftvol.service`, 'utf8');
  // systemd.exec(5): each of these makes a mount namespace.
  const makes =
    /^(?:PrivateTmp|PrivateDevices|PrivateIPC|Protect(?:System|Home|Proc|Clock|ControlGroups|Kernel\w+)|ProcSubset|MountAPIVFS|RootDirectory|RootImage|TemporaryFileSystem|(?:ReadWrite|ReadOnly|Inaccessible|Bind|BindReadOnly)\w*Paths?|NoExecPaths|ExecPaths|DynamicUser|RuntimeDirectory|StateDirectory)=/m;
  assert.doesNotMatch(unit, makes);
  assert.match(unit, /^PrivateMounts=no$/m);
  assert.match(unit, /^KillMode=process$/m);
});

test('the agent makes and enters no other namespaces than its unit lets it', () => {
  const unit = readFileSync(`${UNITS}shiftvol.service`, 'utf8');
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts'));
  const texts = files.map(file => readFileSync(join(SRC, file), 'utf8'));
  const kinds = texts.flatMap(text => [...text.matchAll(/\bCLONE_NEW(\w+) = /g)].map(([, kind]) => kind));
  const entered = texts.flatMap(text => [...text.matchAll(/\bsetns\([^)]*?, ([\w.]+)\)/g)].map(([, kind]) => kind));

  assert.match(unit, /^RestrictNamespaces=user mnt$/m);
  assert.deepEqual([...new Set(kinds)], ['USER']);
  assert.deepEqual([...new Set(entered)], ['CLONE.NEWNS']);
});
