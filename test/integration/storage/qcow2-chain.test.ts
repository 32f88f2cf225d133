import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isError } from '../../../src/errors.ts';
import { qcow2Size, requireOwnChain } from '../../../src/storage/connect/qcow2-chain.ts';

const SIZE = 64 * 2 ** 20;

describe('what a qcow2 file on a share stands on', () => {
  let base: string;
  let share: string;
  before(() => {
    base = mkdtempSync(join(tmpdir(), 'shiftvol-chain-'));
    share = join(base, 'share');
    mkdirSync(share);
    writeFileSync(join(base, 'shadow'), 'root:x:');
    writeFileSync(join(share, 'raw'), '');
    truncateSync(join(share, 'raw'), SIZE);
    symlinkSync(join(base, 'shadow'), join(share, 'link'));
  });
  after(() => rmSync(base, { recursive: true }));

  /** A header alone: what is below need not be there. */
  const qcow2 = (name: string, below?: string, format?: string) => {
    const path = join(share, name);
    const on = below === undefined ? [] : ['-u', '-b', below, '-F', format ?? 'raw'];
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...on, path, String(SIZE)]);
    return path;
  };
  const refusal = async (path: string) => {
    try {
      await requireOwnChain(path, share, undefined);
    } catch (error) {
      assert.ok(isError(error, 'SV_IMAGE_REFUSED'), String(error));
      return error.message;
    }
    return 'accepted';
  };

  test('may be files beside it, raw at the bottom', async () => {
    qcow2('middle', 'raw', 'raw');
    const top = qcow2('top', 'middle', 'qcow2');
    assert.equal(await requireOwnChain(top, share, undefined), SIZE);
    assert.equal(await qcow2Size(top, undefined), SIZE);
  });

  test('may not be a symbolic link, at the top or below', async () => {
    assert.match(await refusal(qcow2('on-link', 'link', 'raw')), /"link" is not a regular file/);
    symlinkSync(join(share, 'raw'), join(share, 'top-link'));
    assert.match(await refusal(join(share, 'top-link')), /not a regular file/);
  });

  test('may not lie outside, nor be missing', async () => {
    assert.match(await refusal(qcow2('out', '../shadow', 'raw')), /leads out of its share, to "\.\.\/shadow"/);
    assert.match(await refusal(qcow2('absolute', join(base, 'shadow'), 'raw')), /leads out/);
    assert.match(await refusal(qcow2('device', '/dev/null', 'raw')), /leads out/);
    assert.match(await refusal(qcow2('gone', 'nothing', 'raw')), /which is not there/);
  });

  test('may not be what qemu takes for something else than a file, and nobody asks there', async () => {
    let asked = 0;
    const server = createServer(socket => {
      asked++;
      socket.destroy();
    });
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    try {
      assert.match(await refusal(qcow2('nbd', `nbd:127.0.0.1:${port}`, 'raw')), /leads out/);
      const json = `json:{"driver":"nbd","host":"127.0.0.1","port":"${port}"}`;
      assert.match(await refusal(qcow2('json', json, 'raw')), /leads out/);
      assert.equal(asked, 0);
    } finally {
      server.close();
    }
  });

  test('may not go round in a circle', async () => {
    qcow2('circle-b', 'circle-a', 'qcow2');
    assert.match(await refusal(qcow2('circle-a', 'circle-b', 'qcow2')), /on itself/);
  });

  test('has a format that it says, which is qcow2 or raw', async () => {
    const silent = qcow2('silent', 'raw', 'raw');
    const bytes = readFileSync(silent);
    // qemu-img writes none without it any more: the header's word becomes one that nobody knows.
    bytes.write('????', bytes.indexOf(Buffer.from('e2792aca', 'hex')), 'latin1');
    writeFileSync(silent, bytes);
    assert.match(await refusal(silent), /says nothing of the format of "raw"/);
    assert.match(await refusal(qcow2('vmdk', 'raw', 'vmdk')), /says "vmdk" of the format of "raw"/);
  });

  test('may not keep its data elsewhere', async () => {
    const path = join(share, 'external');
    execFileSync('qemu-img', [
      ...['create', '-q', '-f', 'qcow2', '-o', `data_file=${join(base, 'data')},data_file_raw=on`],
      ...[path, String(SIZE)],
    ]);
    assert.match(await refusal(path), /keeps its data in another file/);
  });
});
