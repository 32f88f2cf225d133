import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isError } from '../../../src/errors.ts';
import type { IdmapForm } from '../../../src/idmap/forms.ts';
import type { Idmap } from '../../../src/idmap/idmap.ts';
import { parseIdmap, parseProcMaps } from '../../../src/idmap/parse.ts';
import { both, extent } from './arbitraries.ts';

// Every case is lopsided: on-disk id, host id and count differ, so that a reader that swaps two of them fails.
const cases: readonly { text: string; form: IdmapForm; map: Idmap }[] = [
  { text: 'uid 0 100000 65536', form: 'columns', map: [extent('uid', 0, 100000, 65536)] },
  { text: 'uid 1000 0 1', form: 'columns', map: [extent('uid', 1000, 0, 1)] },
  {
    text: 'both 7 100007 3\ngid 20 300020 4',
    form: 'columns',
    map: [...both(7, 100007, 3), extent('gid', 20, 300020, 4)],
  },
  {
    text: 'uid 0 100000 65536, gid 0 200000 10',
    form: 'columns',
    map: [extent('uid', 0, 100000, 65536), extent('gid', 0, 200000, 10)],
  },
  { text: 'both 1000 1001', form: 'lxd', map: both(1001, 1000, 1) },
  { text: 'uid 200000-200005 1000-1005', form: 'lxd', map: [extent('uid', 1000, 200000, 6)] },
  {
    text: 'uid 500-509 50-59\ngid 100000-165535 0-65535',
    form: 'lxd',
    map: [extent('uid', 50, 500, 10), extent('gid', 0, 100000, 65536)],
  },
  { text: 'u:0:100000:65536', form: 'mount', map: [extent('uid', 0, 100000, 65536)] },
  { text: 'b:1000:0:1', form: 'mount', map: both(1000, 0, 1) },
  { text: 'u:1000:0:1 g:1001:2:5', form: 'mount', map: [extent('uid', 1000, 0, 1), extent('gid', 1001, 2, 5)] },
  { text: 'X-mount.idmap=u:5:100005:2', form: 'mount', map: [extent('uid', 5, 100005, 2)] },
  { text: '0:100000:65536', form: 'triple', map: both(0, 100000, 65536) },
  { text: '1000:0:1,0:100000:1000', form: 'triple', map: [...both(1000, 0, 1), ...both(0, 100000, 1000)] },
  { text: '         0     200000      65536\n', form: 'proc', map: both(0, 200000, 65536) },
  { text: '0 200000 1000\n1000 1000 1\n', form: 'proc', map: [...both(0, 200000, 1000), ...both(1000, 1000, 1)] },
  { text: 'lxc.idmap = u 0 100000 65536', form: 'lxc', map: [extent('uid', 0, 100000, 65536)] },
  { text: 'lxc.idmap: g 5 100005 7', form: 'lxc', map: [extent('gid', 5, 100005, 7)] },
  {
    text: 'lxc.id_map=b 5 100005 7\nlxc.idmap = u 50 100050 1',
    form: 'lxc',
    map: [...both(5, 100005, 7), extent('uid', 50, 100050, 1)],
  },
  { text: 'u 5 100005 7', form: 'lxc', map: [extent('uid', 5, 100005, 7)] },
  {
    text: 'root:100000:65536\nroot:300000:10',
    form: 'subid',
    map: [...both(0, 100000, 65536), ...both(65536, 300000, 10)],
  },
  {
    text: '[{"Isuid":true,"Isgid":false,"Hostid":100000,"Nsid":5,"Maprange":65536}]',
    form: 'lxd-json',
    map: [extent('uid', 5, 100000, 65536)],
  },
  {
    text: '[{"Isuid":true,"Isgid":true,"Hostid":100000,"Nsid":5,"Maprange":9}]',
    form: 'lxd-json',
    map: both(5, 100000, 9),
  },
  {
    text: '{"extents":[{"kind":"gid","fsId":5,"hostId":100000,"count":9}]}',
    form: 'json',
    map: [extent('gid', 5, 100000, 9)],
  },
];

for (const { text, form, map } of cases)
  test(`${form}: ${JSON.stringify(text)} is read, and its form is seen from the text`, () => {
    assert.deepEqual(parseIdmap(text), map);
    assert.deepEqual(parseIdmap(text, { form }), map);
  });

test('entries without a kind map the one that is asked for', () => {
  assert.deepEqual(parseIdmap('5:100005:7', { kind: 'gid' }), [extent('gid', 5, 100005, 7)]);
  assert.deepEqual(parseProcMaps(' 5 100005 7\n', ' 6 200006 8\n'), [
    extent('uid', 5, 100005, 7),
    extent('gid', 6, 200006, 8),
  ]);
  assert.deepEqual(parseProcMaps('', ''), []);
});

test('a number of a subuid file’s owner is read where the form is said', () => {
  assert.deepEqual(parseIdmap('1000:100000:65536', { form: 'subid' }), both(0, 100000, 65536));
});

const bad: readonly [text: string, field: RegExp, text: RegExp][] = [
  ['', /^$/, /it is empty, accepted are .*"u\|g\|b:DISK:HOST:COUNT"/],
  [' \n', /^$/, /it is empty/],
  ['hello', /^extents\[0\]$/, /entry 1 "hello": accepted are/],
  ['uid 0 100000 65536 7', /^extents\[0\]$/, /it has 5 fields, not 4/],
  ['uid 0 0x100000 65536', /^extents\[0\].hostId$/, /hostId "0x100000" is not a plain decimal number/],
  ['uid 0 1e5 65536', /^extents\[0\].hostId$/, /"1e5"/],
  ['uid -1 100000 65536', /^extents\[0\].fsId$/, /"-1"/],
  ['uid +1 100000 65536', /^extents\[0\].fsId$/, /"\+1"/],
  ['uid 010 100000 65536', /^extents\[0\].fsId$/, /"010"/],
  ['uid 1.0 100000 65536', /^extents\[0\].fsId$/, /"1\.0"/],
  ['uid 1_0 100000 65536', /^extents\[0\].fsId$/, /"1_0"/],
  ['uid ٣ 100000 65536', /^extents\[0\].fsId$/, /"٣"/],
  ['uid 0\u00a0100000 65536 1', /./, /./],
  ['uid 0 100000 65536\r\ngid 0 100000 65536', /^extents\[0\].count$/, /"65536\\r"/],
  ['uid 0 100000 65536\nboth 1000 1001', /^extents\[1\]$/, /entry 2 "both 1000 1001": it has 3 fields, not 4/],
  ['both 1000 1001\nuid 0 100000 65536', /^extents\[2\]$/, /entry 2 .*it has 4 fields, not 3/],
  ['user 0 100000 65536', /./, /accepted are/],
  ['uid 0 100000 65536\nuser 0 100000 65536', /^extents\[1\].kind$/, /kind "user" is not one of uid, gid, both/],
  ['uid 0 100000 65536\n__proto__ 0 100000 65536', /^extents\[1\].kind$/, /kind "__proto__"/],
  ['both 1000-1005 2000-2006', /^extents\[0\].count$/, /1000-1005 are 6 ids and 2000-2006 are 7/],
  ['both 1005-1000 2005-2000', /^extents\[0\].hostId$/, /ends before it begins/],
  ['both 1-2-3 1-2-3', /^extents\[0\].hostId$/, /not a number or a range/],
  ['u:0:100000', /^extents\[0\]$/, /it has 3 fields, not 4/],
  ['u:0:100000:', /^extents\[0\].count$/, /count ""/],
  ['u: 0:100000:5', /./, /./],
  ['x:0:100000:5', /./, /accepted are/],
  ['u:0:100000:5 h:0:100000:5', /^extents\[1\].kind$/, /kind "h" is not one of u, g, b/],
  ['@0:100000:5', /./, /accepted are/],
  ['0:@100000:5', /^extents\[0\].hostId$/, /"@100000"/],
  ['0:100000:5:6', /^extents\[0\]$/, /it has 4 fields, not 3/],
  ['lxc.idmap = u 0 100000', /^extents\[0\]$/, /it has 3 fields, not 4/],
  ['lxc.idmap = both 0 100000 5', /^extents\[0\].kind$/, /kind "both"/],
  ['root:100000:65536\nalice:300000:10', /^extents\[2\].owner$/, /"alice" is another owner/],
  ['{"extents":[', /^$/, /it is not JSON/],
  ['{"extents":{}}', /^extents$/, /it is not a list/],
  ['{"extents":[]}', /^extents$/, /empty list/],
  ['{"extents":[7]}', /^extents\[0\]$/, /it is not an object/],
  ['{"extends":[]}', /^$/, /key "extends" is unknown/],
  ['{"extents":[{"kind":"uid","fsId":0,"hostId":1,"count":1,"x":1}]}', /^extents\[0\]$/, /key "x" is unknown/],
  ['{"extents":[{"kind":"uid","fsId":"0","hostId":1,"count":1}]}', /^extents\[0\].fsId$/, /"0" is not a whole number/],
  ['{"extents":[{"kind":"uid","fsId":0,"count":1}]}', /^extents\[0\].hostId$/, /missing is not a whole number/],
  ['{"extents":[{"kind":"both","fsId":0,"hostId":1,"count":1}]}', /^extents\[0\].kind$/, /"both" is not uid or gid/],
  ['{"__proto__":{"extents":[]}}', /^$/, /key "__proto__" is unknown/],
  ['[]', /./, /empty list/],
  ['[{"Isuid":false,"Isgid":false,"Hostid":1,"Nsid":5,"Maprange":9}]', /^\[0\]$/, /neither Isuid nor Isgid/],
  ['[{"Isuid":1,"Isgid":false,"Hostid":1,"Nsid":5,"Maprange":9}]', /^\[0\].Isuid$/, /1 is not true or false/],
  ['[{"Isuid":true,"Isgid":false,"Hostid":1.5,"Nsid":5,"Maprange":9}]', /^\[0\].Hostid$/, /1\.5 is not a whole number/],
];

for (const [text, field, message] of bad)
  test(`${JSON.stringify(text)} is refused, saying where and what is accepted`, () => {
    assert.throws(
      () => parseIdmap(text),
      error =>
        isError(error, 'SV_IDMAP_SYNTAX') &&
        message.test(error.message) &&
        field.test(error.field ?? '') &&
        !error.message.includes('\n'),
    );
  });

test('ids past 4294967294 are refused by their field', () => {
  for (const [text, field] of [
    ['uid 0 4294967295 1', 'extents[0].hostId'],
    ['uid 4294967295 100000 1', 'extents[0].fsId'],
    ['b:0:100000:1 b:5:99999999999999:1', 'extents[2].hostId'],
    ['{"extents":[{"kind":"uid","fsId":4294967295,"hostId":1,"count":1}]}', 'extents[0].fsId'],
  ] as const)
    assert.throws(
      () => parseIdmap(text),
      error => isError(error, 'SV_IDMAP_INVALID') && error.field === field,
    );
});

test('a text of a mebibyte and more is not looked at', () => {
  assert.throws(
    () => parseIdmap('u:0:1:1 '.repeat(1 << 18)),
    error => isError(error, 'SV_IDMAP_SYNTAX'),
  );
});
