import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isError } from '../../../src/errors.ts';
import { canonical } from '../../../src/idmap/compose.ts';
import { IDMAP_FORMS } from '../../../src/idmap/forms.ts';
import { uidMapText } from '../../../src/idmap/kernel-text.ts';
import { parseIdmap, parseProcMaps } from '../../../src/idmap/parse.ts';
import { printIdmap } from '../../../src/idmap/print.ts';
import { both, evenMap, extent, soundMap } from './arbitraries.ts';

for (const form of ['json', 'lxd-json', 'columns', 'lxd', 'lxc', 'mount'] as const)
  test(`${form}: what is printed is read back as the same map`, () => {
    fc.assert(
      fc.property(fc.oneof(soundMap(0), evenMap(0)), map => {
        assert.deepEqual(parseIdmap(printIdmap(map, form)), map);
      }),
    );
  });

for (const form of ['triple', 'proc'] as const)
  test(`${form}: what is printed is read back as the same map, where gids are mapped as uids`, () => {
    fc.assert(
      fc.property(evenMap(0), map => {
        assert.deepEqual(parseIdmap(printIdmap(map, form)), map);
        assert.deepEqual(canonical(parseIdmap(printIdmap(canonical(map), form))), canonical(map));
      }),
    );
  });

test('subid: what is printed is read back as the same map, where ids from 0 on are mapped', () => {
  const map = [...both(0, 100000, 65536), ...both(65536, 300000, 10)];
  assert.equal(printIdmap(map, 'subid', 'shiftvol'), 'shiftvol:100000:65536\nshiftvol:300000:10');
  assert.deepEqual(parseIdmap(printIdmap(map, 'subid')), map);
});

test('what the kernel is given is read back as the same map', () => {
  fc.assert(
    fc.property(soundMap(0), map => {
      assert.deepEqual(parseProcMaps(uidMapText(map, 'uid'), uidMapText(map, 'gid')), map);
    }),
  );
});

// A lopsided map, written out: on-disk id 5, host id 100007, 3 ids.
const written = {
  json: '{"extents":[{"kind":"uid","fsId":5,"hostId":100007,"count":3},{"kind":"gid","fsId":5,"hostId":100007,"count":3}]}',
  columns: 'both 5 100007 3',
  lxd: 'both 100007-100009 5-7',
  'lxd-json':
    '[{"Isuid":true,"Isgid":false,"Hostid":100007,"Nsid":5,"Maprange":3},{"Isuid":false,"Isgid":true,"Hostid":100007,"Nsid":5,"Maprange":3}]',
  lxc: 'lxc.idmap = b 5 100007 3',
  mount: 'b:5:100007:3',
  triple: '5:100007:3',
  proc: '5 100007 3',
} as const;

for (const form of IDMAP_FORMS.filter(f => f !== 'subid'))
  test(`${form}: the sides of a map are printed in the form's own order`, () => {
    assert.equal(printIdmap(both(5, 100007, 3), form), written[form]);
  });

test('the kernel gets on-disk id, host id, count, one kind at a time', () => {
  const map = [extent('uid', 5, 100007, 3), extent('gid', 6, 200007, 4), extent('uid', 50, 100050, 1)];
  assert.equal(uidMapText(map, 'uid'), '5 100007 3\n50 100050 1\n');
  assert.equal(uidMapText(map, 'gid'), '6 200007 4\n');
});

test('a map that takes more than the 4,095 bytes of one write is refused', () => {
  const wide = (n: number) =>
    Array.from({ length: n }, (_, i) => extent('uid', 1000000000 + 2 * i, 2000000000 + 2 * i, 1));

  assert.equal(uidMapText(wide(170), 'uid').length, 170 * 24);
  assert.throws(
    () => uidMapText(wide(171), 'uid'),
    error => isError(error, 'SV_IDMAP_INVALID') && /4104 bytes, the kernel accepts 4095/.test(error.message),
  );
});

test('a form that cannot say a map refuses it', () => {
  const uneven = [extent('uid', 0, 100000, 5), extent('gid', 0, 200000, 5)];
  for (const form of ['triple', 'proc', 'subid'] as const)
    assert.throws(
      () => printIdmap(uneven, form),
      error => isError(error, 'SV_IDMAP_INVALID'),
    );
  assert.throws(
    () => printIdmap(both(1, 100000, 5), 'subid'),
    error => isError(error, 'SV_IDMAP_INVALID'),
  );
});
