/** LXD's REST API for the rig, over node:http: on purpose not the client of src/container/lxd, which is what is tested. */
import { createReadStream } from 'node:fs';
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

export type Json = { readonly [key: string]: unknown };

export class LxdApiError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Every call that starts an operation waits for its end, and gives the operation (or what it made). */
export class LxdApi {
  readonly #socketPath: string;
  #agent = new Agent({ keepAlive: true });

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  get(path: string): Promise<Json> {
    return this.#call('GET', path);
  }
  post(path: string, body: Json): Promise<Json> {
    return this.#call('POST', path, body);
  }
  put(path: string, body: Json): Promise<Json> {
    return this.#call('PUT', path, body);
  }
  patch(path: string, body: Json): Promise<Json> {
    return this.#call('PATCH', path, body);
  }
  delete(path: string): Promise<Json> {
    return this.#call('DELETE', path);
  }

  async list(path: string): Promise<readonly Json[]> {
    const list: unknown = await this.#call('GET', path);
    return Array.isArray(list) ? list : [];
  }

  /** The body as it is: logs and recorded output. */
  async text(path: string): Promise<string> {
    const { status, body } = await this.#send('GET', path);
    if (status !== 200) throw new LxdApiError(status, body);
    return body;
  }

  /** Sends a file; what the operation made (`fingerprint` for an image) comes back. */
  async upload(path: string, file: string): Promise<Json> {
    const { body } = await this.#send('POST', path, createReadStream(file));
    const operation = await this.#result(body);
    return isJson(operation['metadata']) ? operation['metadata'] : operation;
  }

  /** For what LXD refuses while it is busy with the same instance, up to 20 s. */
  async patiently<T>(call: () => Promise<T>): Promise<T> {
    for (let tries = 0; ; tries++) {
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof Error) || !error.message.includes('nstance is busy') || tries === 100) throw error;
        await sleep(200);
      }
    }
  }

  close(): void {
    this.#agent.destroy();
    this.#agent = new Agent({ keepAlive: true });
  }

  async #call(method: string, path: string, json?: Json): Promise<Json> {
    const { body } = await this.#send(method, path, json === undefined ? undefined : JSON.stringify(json));
    return this.#result(body);
  }

  async #result(body: string): Promise<Json> {
    const reply: unknown = JSON.parse(body);
    if (!isJson(reply)) throw new Error(`LXD: ${body}`);
    if (reply['type'] === 'error') throw new LxdApiError(Number(reply['error_code']), String(reply['error']));
    if (reply['type'] !== 'async') return isJson(reply['metadata']) ? reply['metadata'] : {};
    const operation = await this.#call('GET', `${reply['operation']}/wait?timeout=120`);
    if (operation['status_code'] !== 200)
      throw new LxdApiError(Number(operation['status_code']), String(operation['err']));
    return operation;
  }

  #send(
    method: string,
    path: string,
    body?: string | NodeJS.ReadableStream,
  ): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      const outgoing = request({ socketPath: this.#socketPath, agent: this.#agent, method, path }, incoming => {
        const chunks: Buffer[] = [];
        incoming.on('data', chunk => chunks.push(chunk));
        incoming.on('end', () =>
          resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }),
        );
        incoming.on('error', reject);
      });
      outgoing.on('error', reject);
      if (body === undefined || typeof body === 'string') outgoing.end(body);
      else body.pipe(outgoing);
    });
  }
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null;
}
