import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cleanRanges, unmapProgram } from '../../../src/kernel/own-memory.ts';

const mapping = (head: string, facts: { anonymous?: number; dirty?: number; rss?: number } = {}) =>
  [
    head,
    'Size:                100 kB',
    `Rss:                 ${facts.rss ?? 64} kB`,
    `Private_Dirty:       ${facts.dirty ?? 0} kB`,
    `Anonymous:           ${facts.anonymous ?? 0} kB`,
    'Swap:                  0 kB',
    'VmFlags: rd ex mr mw me sd',
    '',
  ].join('\n');

test('only read-only pages of the program itself, none of which has been changed, are given back', () => {
  const smaps = [
    mapping('0074a000-03044000 r-xp 0034a000 fe:00 1234                               /usr/bin/node'),
    mapping('03201000-06b51000 r--p 02e01000 fe:00 1234                               /usr/bin/node', { rss: 8 }),
    mapping('06b52000-06b56000 r--p 06751000 fe:00 1234                               /usr/bin/node', {
      anonymous: 16,
    }),
    mapping('06b56000-06b7c000 rw-p 06755000 fe:00 1234                               /usr/bin/node'),
    mapping('06b7c000-06b80000 r-xp 06755000 fe:00 1234                               /usr/bin/node', { dirty: 4 }),
    mapping('7f0000000000-7f0000100000 r-xp 00000000 fe:00 99                         /lib/libc.so.6'),
    mapping('7f0000200000-7f0000300000 r-xp 00000000 00:00 0 '),
  ].join('');

  assert.deepEqual(cleanRanges(smaps, '/usr/bin/node'), [
    { start: 0x74a000n, end: 0x3044000n, residentBytes: 65_536 },
    { start: 0x3201000n, end: 0x6b51000n, residentBytes: 8192 },
  ]);
  assert.deepEqual(cleanRanges('', '/usr/bin/node'), []);
});

test('the program goes on without the pages that it gave back', () => {
  assert.ok(unmapProgram() > 2 ** 20);
  assert.equal(new Intl.NumberFormat('de').format(1234.5), '1.234,5');
  assert.ok(unmapProgram() > 0, 'what was used since is mapped again');
});
