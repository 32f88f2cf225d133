/** Templates from web servers, good and bad ones. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { importTemplate } from '../../../src/storage/import/import.ts';
import { removeTemplate } from '../../../src/storage/templates.ts';
import { makePool, run } from '../../rig/pool.ts';
import { makeTreeImage } from '../../rig/tree.ts';
import { refuses } from './importing.ts';

const pool = makePool('xfs');
const file = (name: string) => join(pool.base, name);
after(() => pool[Symbol.dispose]());

before(async () => {
  await makeTreeImage(file('ext4'), { files: 50, fsType: 'ext4', sizeBytes: 256 * 2 ** 20 });
  run('qemu-img', 'convert', '-O', 'qcow2', file('ext4'), file('ext4.qcow2'));
});

test('import downloads, follows a redirect, and checks the sha256', async () => {
  await serving(
    (request, response) => {
      if (request.url === '/moved') response.writeHead(302, { location: '/image' }).end();
      else response.end(readFileSync(file('ext4.qcow2')));
    },
    async url => {
      const { template } = await importTemplate(pool, { name: 'web', from: `${url}/moved` });
      assert.equal(template.fsType, 'ext4');
      await removeTemplate(pool, 'web');
      await refuses(pool, { name: 'web', from: `${url}/image`, sha256: '0'.repeat(64) }, 'SV_CHECKSUM');
    },
  );
});

test('import gives up on errors, loops, short and endless bodies, and leaves nothing', async () => {
  await serving(
    (request, response) => {
      if (request.url === '/loop') response.writeHead(302, { location: '/loop' }).end();
      else if (request.url === '/file') response.writeHead(302, { location: 'file:///etc/passwd' }).end();
      else if (request.url === '/short') {
        response.writeHead(200, { 'content-length': 1000 });
        response.write('x');
        setTimeout(() => response.destroy(), 20);
      } else if (request.url === '/huge') response.writeHead(200, { 'content-length': 2 ** 50 }).end();
      else response.writeHead(404).end();
    },
    async url => {
      for (const path of ['/none', '/loop', '/file', '/short'])
        await refuses(pool, { name: 'web', from: url + path }, 'SV_DOWNLOAD');
      await refuses(pool, { name: 'web', from: `${url}/huge` }, 'SV_NO_SPACE');
      await refuses(pool, { name: 'web', from: 'http://127.0.0.1:1/' }, 'SV_DOWNLOAD');
    },
  );
});

async function serving(listener: RequestListener, work: (url: string) => Promise<void>): Promise<void> {
  const server = createServer(listener);
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  try {
    await work(`http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
