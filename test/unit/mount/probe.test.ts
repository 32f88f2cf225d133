import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { probeImage, requireMountable, superblocks } from '../../../src/mount/probe.ts';
import { describe as describeHead, findContainer, HEAD_BYTES } from '../../../src/mount/signatures.ts';

const UUID = '0123456789abcdeffedcba9876543210';
const UUID_TEXT = '01234567-89ab-cdef-fedc-ba9876543210';

type Edit = (head: Buffer) => void;

function ext4(edit: Edit = () => {}): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  const s = head.subarray(1024, 2048);
  s.writeUInt32LE(16384, 0x4);
  s.writeUInt32LE(2, 0x18);
  s.writeUInt16LE(0xef53, 0x38);
  s.writeUInt16LE(1, 0x3a);
  s.writeUInt32LE(0x4, 0x5c); // has_journal
  s.writeUInt32LE(8, 0xe0); // s_journal_inum
  s.write(UUID, 0x68, 'hex');
  s.write('data', 0x78);
  edit(s);
  return head;
}

function xfs(edit: Edit = () => {}): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.write('XFSB');
  head.writeUInt32BE(4096, 4);
  head.writeBigUInt64BE(81920n, 8);
  head.write(UUID, 32, 'hex');
  head.writeBigUInt64BE(65542n, 48);
  head.write('data', 108);
  edit(head);
  return head;
}

function btrfs(edit: Edit = () => {}): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  const s = head.subarray(65536);
  s.write(UUID, 0x20, 'hex');
  s.writeBigUInt64LE(65536n, 0x30);
  s.write('_BHRfS_M', 0x40);
  s.writeBigUInt64LE(134217728n, 0x70);
  s.writeBigUInt64LE(1n, 0x88);
  s.write('data', 0x12b);
  edit(s);
  return head;
}

const accept = (head: Buffer) => requireMountable(superblocks(head), findContainer(head), '"x"');
const refused = (text: RegExp) => ({ code: 'SV_IMAGE_REFUSED', message: text });

describe('a superblock', () => {
  test('tells type, uuid, label, size and journal', () => {
    const facts = { uuid: UUID_TEXT, label: 'data' };
    assert.deepEqual(accept(ext4()), { ...facts, fsType: 'ext4', sizeBytes: 16384 * 4096, journal: 'clean' });
    assert.deepEqual(accept(xfs()), { ...facts, fsType: 'xfs', sizeBytes: 81920 * 4096, journal: 'unknown' });
    assert.deepEqual(accept(btrfs()), { ...facts, fsType: 'btrfs', sizeBytes: 134217728, journal: 'clean' });
  });

  test('tells that a journal has to be replayed', () => {
    assert.equal(accept(ext4(s => s.writeUInt32LE(0x4, 0x60))).journal, 'unclean');
    assert.equal(accept(btrfs(s => s.writeBigUInt64LE(30408704n, 0x60))).journal, 'unclean');
  });

  test('of ext2 is one of ext4, unclean where the valid bit is missing', () => {
    const ext2 = (state: number) =>
      ext4(s => {
        s.writeUInt32LE(0, 0x5c);
        s.writeUInt32LE(0, 0xe0);
        s.writeUInt16LE(state, 0x3a);
      });
    assert.equal(accept(ext2(1)).journal, 'clean');
    assert.equal(accept(ext2(0)).journal, 'unclean');
    assert.equal(accept(ext2(1)).fsType, 'ext4');
  });

  test('counts more than 2^32 blocks where the file system has them', () => {
    const head = ext4(s => {
      s.writeUInt32LE(0x80, 0x60);
      s.writeUInt32LE(1, 0x150);
    });
    assert.equal(accept(head).sizeBytes, (2 ** 32 + 16384) * 4096);
  });

  const dangers: readonly [what: string, head: Buffer, text: RegExp][] = [
    [
      'mount options',
      ext4(s => s.write('journal_path=/dev/sda', 0x200)),
      /mount options of its own \("journal_path=\/dev\/sda"\)/,
    ],
    ['a journal device number', ext4(s => s.writeUInt32LE(0x801, 0xe4)), /journal on another device/],
    ['a journal without an inode', ext4(s => s.writeUInt32LE(0, 0xe0)), /journal on another device/],
    ['an external journal itself', ext4(s => s.writeUInt32LE(0x8, 0x60)), /is the external journal/],
    ['multiple mount protection', ext4(s => s.writeUInt32LE(0x100, 0x60)), /multiple mount protection/],
    ['an external xfs log', xfs(s => s.writeBigUInt64BE(0n, 48)), /log on another device/],
    ['an xfs realtime section', xfs(s => s.writeBigUInt64BE(1n, 16)), /realtime section/],
    ['a btrfs superblock of another place', btrfs(s => s.writeBigUInt64LE(0n, 0x30)), /stands at 0, not at 65536/],
    ['several btrfs devices', btrfs(s => s.writeBigUInt64LE(2n, 0x88)), /spans 2 devices/],
    ['a btrfs seed', btrfs(s => s.writeBigUInt64LE(1n << 32n, 0x38)), /seed/],
  ];
  for (const [what, head, text] of dangers)
    test(`is refused for ${what}`, () => assert.throws(() => accept(head), refused(text)));

  test('is refused beside another signature', () => {
    const both = ext4();
    btrfs().copy(both, 65536, 65536);
    assert.throws(() => accept(both), refused(/signatures of ext4 and of btrfs/));
    const luks = ext4();
    luks.write('LUKS\xba\xbe', 'latin1');
    assert.throws(() => accept(luks), refused(/signatures of ext4 and of a LUKS volume/));
  });

  test('in an image that ends early is none', () => {
    for (const [head, end] of [
      [ext4(), 2047],
      [xfs(), 511],
      [btrfs(), HEAD_BYTES - 1],
    ] as const) {
      assert.equal(superblocks(head).length, 1);
      assert.equal(superblocks(head.subarray(0, end)).length, 0);
    }
  });
});

describe('what is refused is named', () => {
  const named: readonly [what: string, at: number, magic: string][] = [
    ['a LUKS volume', 0, 'LUKS\xba\xbe'],
    ['an LVM2 physical volume', 512 + 24, 'LVM2 001'],
    ['swap space', 4086, 'SWAPSPACE2'],
    ['a qcow2 image', 0, 'QFI\xfb'],
    ['a disk with a GPT partition table', 512, 'EFI PART'],
    ['squashfs', 0, 'hsqs'],
    ['NTFS', 3, 'NTFS    '],
    ['ISO 9660', 32769, 'CD001'],
    ['a tar archive', 257, 'ustar'],
    ['gzip data', 0, '\x1f\x8b\x08'],
  ];
  for (const [what, at, magic] of named)
    test(what, () => {
      const head = Buffer.alloc(HEAD_BYTES);
      head.write(magic, at, 'latin1');
      assert.equal(describeHead(head), what);
    });

  test('a disk with an MBR partition table, told from a mere boot sector', () => {
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt16BE(0x55aa, 510);
    assert.match(describeHead(head), /without any file system/);
    head.writeUInt8(0x83, 446 + 4);
    assert.equal(describeHead(head), 'a disk with an MBR partition table');
  });
});

test('an image is read through its descriptor', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'shiftvol-probe-'));
  const probe = async (content: Buffer | string) => {
    writeFileSync(join(dir, 'image'), content);
    const fd = openSync(join(dir, 'image'), 'r');
    try {
      return await probeImage(fd, '"image"');
    } finally {
      closeSync(fd);
    }
  };
  try {
    for (const make of [ext4, xfs, btrfs]) assert.equal((await probe(make())).uuid, UUID_TEXT);
    assert.equal((await probe(ext4().subarray(0, 4096))).fsType, 'ext4');
    for (const [content, text] of [
      ['', /an empty file, accepted are ext4, xfs and btrfs/],
      [Buffer.alloc(100000), /blank/],
      ['x', /without any file system/],
      [btrfs().subarray(0, HEAD_BYTES - 1), /without any file system/],
    ] as const)
      await assert.rejects(probe(content), refused(text));
  } finally {
    rmSync(dir, { recursive: true });
  }
});
