/** As much of Keystone and Glance as a boot and a snapshot ask for, in this process: the real ones are in `npm run test:openstack`. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

export type Stored = {
  readonly id: string;
  data: Buffer | undefined;
  diskFormat: string | undefined;
  downloads: number;
};

export class Glance implements AsyncDisposable {
  readonly images = new Map<string, Stored>();
  readonly #server = createServer((request, response) => {
    this.#answer(request, response).catch(error => response.writeHead(500).end(String(error)));
  });
  #origin = '';

  static async start(): Promise<Glance> {
    const glance = new Glance();
    glance.#server.listen(0, '127.0.0.1');
    await once(glance.#server, 'listening');
    const { port } = glance.#server.address() as AddressInfo; // it listens on TCP
    glance.#origin = `http://127.0.0.1:${port}`;
    return glance;
  }

  /** What the agent's environment has to be. */
  get env(): Readonly<Record<string, string>> {
    return {
      OS_AUTH_URL: `${this.#origin}/v3`,
      OS_USERNAME: 'shiftvol',
      OS_PASSWORD: 'keystone-password',
      OS_PROJECT_NAME: 'service',
      OS_USER_DOMAIN_NAME: 'Default',
      OS_PROJECT_DOMAIN_NAME: 'Default',
    };
  }

  /** Without data it waits for them, as one that Nova made for a snapshot. */
  add(id: string, data?: Buffer): Stored {
    const image: Stored = { id, data, diskFormat: data && 'raw', downloads: 0 };
    this.images.set(id, image);
    return image;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request;
    const json = (status: number, body: object, headers = {}) =>
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
    if (url === '/v3/auth/tokens') {
      await buffer(request);
      const endpoints = [{ interface: 'public', region: 'R', region_id: 'R', url: `${this.#origin}/image` }];
      const catalog = [{ type: 'image', name: 'glance', endpoints }];
      const issued_at = new Date().toISOString();
      const expires_at = new Date(Date.now() + 3_600_000).toISOString();
      json(
        201,
        { token: { issued_at, expires_at, catalog, project: { id: 'p' }, user: { id: 'u' }, roles: [] } },
        { 'x-subject-token': 'token' },
      );
      return;
    }
    const [, id = '', file] = /^\/image\/v2\/images\/([^/?]+)(\/file)?$/.exec(url) ?? [];
    const image = this.images.get(id);
    if (!image) return void json(404, {});
    if (method === 'GET' && file) {
      image.downloads++;
      response.writeHead(200, {
        'content-type': 'application/octet-stream',
        'content-length': String(image.data?.length ?? 0),
      });
      response.end(image.data);
      return;
    }
    const body = await buffer(request);
    if (method === 'PUT') {
      // As Glance does: what has no format yet takes no data.
      if (image.diskFormat === undefined) return void json(400, { message: 'disk_format is not set' });
      image.data = body;
      return void response.writeHead(204).end();
    }
    if (method === 'PATCH')
      for (const { path, value } of JSON.parse(body.toString())) if (path === '/disk_format') image.diskFormat = value;
    json(200, {
      id,
      name: 'busybox',
      status: image.data ? 'active' : 'queued',
      disk_format: image.diskFormat ?? null,
      container_format: 'bare',
      size: image.data?.length ?? null,
      ...(image.data && {
        os_hash_algo: 'sha512',
        os_hash_value: createHash('sha512').update(image.data).digest('hex'),
      }),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
