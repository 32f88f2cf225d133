import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));

function run(args: readonly string[], input = '') {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'idmap', ...args], { input, encoding: 'utf8' });
  return { status, stdout, stderr };
}

test('parse --json prints the extents and nothing else', () => {
  const { status, stdout, stderr } = run(['parse', '--json', 'uid 0 100000 65536']);

  assert.equal(stdout, '{"extents":[{"kind":"uid","fsId":0,"hostId":100000,"count":65536}]}\n');
  assert.equal(stderr, '');
  assert.equal(status, 0);
});

test('parse takes the words of one entry unquoted, quoted entries as lines, and standard input', () => {
  const extents =
    '{"extents":[{"kind":"uid","fsId":5,"hostId":100007,"count":3},{"kind":"gid","fsId":6,"hostId":200008,"count":4}]}\n';
  assert.equal(run(['parse', '--json', 'u:5:100007:3', 'g:6:200008:4']).stdout, extents);
  assert.equal(run(['parse', '--json', 'uid 5 100007 3', 'gid 6 200008 4']).stdout, extents);
  assert.equal(run(['parse', '--json', '-'], 'lxc.idmap = u 5 100007 3\nlxc.idmap = g 6 200008 4\n').stdout, extents);
  assert.equal(run(['parse', 'both', '5', '100007', '3', '--to', 'lxd']).stdout, 'both 100007-100009 5-7\n');
});

test('parse --to and --invert print another form and the way back', () => {
  assert.equal(run(['parse', '--to', 'mount', 'both 100007-100009 5-7']).stdout, 'b:5:100007:3\n');
  assert.equal(run(['parse', '--invert', '--to', 'mount', 'b:5:100007:3']).stdout, 'b:100007:5:3\n');
  assert.equal(run(['parse', '--form', 'subid', '--to', 'mount', '1000:100000:65536']).stdout, 'b:0:100000:65536\n');
});

test('compose prints on-disk to host', () => {
  const { status, stdout } = run(['compose', '--json', 'u:100000:0:65536', 'u:0:200000:65536']);

  assert.equal(stdout, '{"extents":[{"kind":"uid","fsId":100000,"hostId":200000,"count":65536}]}\n');
  assert.equal(status, 0);
});

test('check says what is wrong, and ends with 2', () => {
  const { status, stdout, stderr } = run(['check', '--json', 'b:0:200000:65537', '--within', '200000:65536']);
  const answer = JSON.parse(stdout);

  assert.equal(status, 2);
  assert.deepEqual(answer.extents[1], { kind: 'gid', fsId: 0, hostId: 200000, count: 65537 });
  assert.deepEqual(
    answer.problems.map((p: { severity: string; field: string; code: string }) => [p.severity, p.code, p.field]),
    [
      ['error', 'SV_IDMAP_INVALID', 'extents[0].hostId'],
      ['error', 'SV_IDMAP_INVALID', 'extents[1].hostId'],
    ],
  );
  assert.match(stderr, /^shiftvol: Cannot map .* the instance owns 200000-265535.*\n$/);
});

test('check of a good map ends with 0, notices or not', () => {
  const good = run(['check', '--json', 'b:0:200000:65536', '--within', '200000:65536']);
  assert.deepEqual([good.status, JSON.parse(good.stdout).problems, good.stderr], [0, [], '']);

  const holed = run(['check', 'b:0:200000:10 b:20:200020:10']);
  assert.match(holed.stdout, /notice {2}extents\[2\].fsId: On-disk uids 10-19 are not mapped/);
  assert.equal(holed.status, 0);
});

for (const args of [
  ['parse', ''],
  ['parse', 'nonsense'],
  ['parse', 'uid 0 -1 5'],
  ['parse', 'uid 0 4294967295 1'],
  ['parse', 'uid 0 4294967290 10'],
  ['parse', 'uid 0 100000 0'],
  ['parse', 'u:0:100000:10 u:5:200000:10'],
  ['parse', '--form', 'zip', 'u:0:100000:10'],
  ['parse', '--to', 'proc', 'u:0:100000:10'],
  ['compose', 'b:0:5:1', 'b:100:200000:1'],
  ['compose', 'b:0:5:1', 'b:x:200000:1'],
  ['check', 'uid 0 0 1'],
  ['check', 'b:0:200000:5', '--within', '200000'],
  ['check', 'b:0:200000:5', '--within', '300000:5'],
  ['alloc', 'c1', '--count', 'many'],
])
  test(`idmap ${args.join(' ')} ends with 2 and says why`, () => {
    const { status, stderr } = run(args);

    assert.equal(status, 2);
    assert.match(stderr, /^(shiftvol: Cannot [^\n]*\n|error: .*\n.*\n)$/);
  });
