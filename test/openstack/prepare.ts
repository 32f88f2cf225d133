/** What the recordings need to be there, made as the administrator and removed afterwards. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import got from 'got';
import { z } from 'zod';
import { Cinder } from '../../src/openstack/cinder.ts';
import { findCloud } from '../../src/openstack/cloud.ts';
import { CloudSession } from '../../src/openstack/session.ts';
import { volumeIs } from '../integration/openstack/demo.ts';
import type { Bases } from './recorder.ts';

type Env = Readonly<Record<string, string | undefined>>;
const entity = (key: string) => z.object({ [key]: z.looseObject({ id: z.string() }) }).transform(o => o[key]?.id ?? '');

export class Prepared implements AsyncDisposable {
  readonly env: Env;
  readonly session: CloudSession;
  readonly #undo: (() => Promise<unknown>)[] = [];

  private constructor(env: Env) {
    this.env = env;
    this.session = new CloudSession(findCloud({ env }));
  }

  static async make(env: Env, signal: AbortSignal): Promise<Prepared> {
    const prepared = new Prepared(env);
    await prepared.volume('demo-volume', signal);
    return prepared;
  }

  async volume(name: string, signal: AbortSignal): Promise<string> {
    const { session } = this;
    const json = { volume: { size: 1, name } };
    const { body } = await session.request('volumev3', { method: 'POST', path: '/volumes', json }, signal);
    const id = entity('volume').parse(body);
    this.#undo.push(() => session.request('volumev3', { method: 'DELETE', path: `/volumes/${id}` }, signal));
    await volumeIs(new Cinder(session), id, 'available', signal);
    return id;
  }

  async token(signal: AbortSignal): Promise<string> {
    return (await login(this.env, signal)).id;
  }

  /** A token that a session was given becomes worthless. */
  async revoke(token: string): Promise<void> {
    await got.delete(`${this.env['OS_AUTH_URL']}/auth/tokens`, {
      headers: { 'x-auth-token': token, 'x-subject-token': token },
      retry: { limit: 0 },
    });
  }

  /** A server with a volume, as Nova attaches it. Undefined where the cloud has no host for servers. */
  async attachThroughNova(signal: AbortSignal): Promise<string | undefined> {
    const { session } = this;
    const ask = (method: 'GET' | 'POST' | 'DELETE', path: string, json?: object) =>
      session.request('compute', { method, path, ...(json && { json }), microversion: '2.89' }, signal);
    const hosts = z.object({ hypervisors: z.array(z.unknown()) }).parse((await ask('GET', '/os-hypervisors')).body);
    if (hosts.hypervisors.length === 0) return undefined;
    const volume = await this.volume('demo-volume-of-nova', signal);
    const flavor = { name: `demo-${randomUUID()}`, vcpus: 1, ram: 64, disk: 0 };
    const flavorRef = entity('flavor').parse((await ask('POST', '/flavors', { flavor })).body);
    this.#undo.push(() => ask('DELETE', `/flavors/${flavorRef}`));
    const root = await this.volume('demo-root', signal);
    await this.session.request(
      'volumev3',
      { method: 'POST', path: `/volumes/${root}/action`, json: { 'os-set_bootable': { bootable: true } } },
      signal,
    );
    const server = {
      name: 'demo',
      flavorRef,
      networks: 'none',
      block_device_mapping_v2: [{ boot_index: 0, uuid: root, source_type: 'volume', destination_type: 'volume' }],
    };
    const id = entity('server').parse((await ask('POST', '/servers', { server })).body);
    this.#undo.push(async () => {
      await ask('DELETE', `/servers/${id}`);
      for (const v of [volume, root]) await volumeIs(new Cinder(session), v, 'available', signal);
    });
    const status = z.object({ server: z.looseObject({ status: z.string() }) });
    for (;;) {
      const { server: now } = status.parse((await ask('GET', `/servers/${id}`)).body);
      if (now.status === 'ACTIVE') break;
      if (now.status === 'ERROR') return undefined;
      await sleep(300, undefined, { signal });
    }
    await ask('POST', `/servers/${id}/os-volume_attachments`, { volumeAttachment: { volumeId: volume } });
    const cinder = new Cinder(session);
    await volumeIs(cinder, volume, 'in-use', signal);
    return (await cinder.attachments(volume, signal))[0]?.id;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const undo of this.#undo.reverse()) await undo();
    this.session[Symbol.dispose]();
  }
}

export async function basesOf(env: Env, signal: AbortSignal): Promise<Bases> {
  const identity = String(env['OS_AUTH_URL']).replace(/\/v3\/?$/, '');
  const { token } = await login(env, signal);
  const base = (type: string): string => {
    const found = token.catalog.find(e => e.type === type)?.endpoints.find(e => e.interface === 'public')?.url;
    return new URL(found ?? identity).origin;
  };
  return { identity, image: base('image'), volume: base('block-storage'), compute: base('compute') };
}

const loginShape = z.object({
  token: z.looseObject({
    user: z.looseObject({ id: z.string() }),
    catalog: z.array(
      z.looseObject({
        type: z.string(),
        endpoints: z.array(z.looseObject({ interface: z.string(), url: z.string() })),
      }),
    ),
  }),
});

async function login(env: Env, signal: AbortSignal) {
  const domain = { id: 'default' };
  const answer = await got.post(`${env['OS_AUTH_URL']}/auth/tokens`, {
    json: {
      auth: {
        identity: {
          methods: ['password'],
          password: { user: { name: env['OS_USERNAME'], domain, password: env['OS_PASSWORD'] } },
        },
        scope: { project: { name: env['OS_PROJECT_NAME'], domain } },
      },
    },
    signal,
    responseType: 'json',
  });
  return { ...loginShape.parse(answer.body), id: String(answer.headers['x-subject-token']) };
}

/** An application credential of the administrator, until it is disposed of. */
export async function makeCredential(prepared: Prepared, signal: AbortSignal) {
  const { env } = prepared;
  const { token, id } = await login(env, signal);
  const url = `${env['OS_AUTH_URL']}/users/${token.user.id}/application_credentials`;
  const headers = { 'x-auth-token': id };
  const body = await got
    .post(url, { headers, json: { application_credential: { name: `demo-${randomUUID()}` } }, signal })
    .json();
  const made = z
    .object({ application_credential: z.looseObject({ id: z.string(), secret: z.string() }) })
    .parse(body).application_credential;
  let gone = false;
  return {
    secret: made.secret,
    env: { OS_APPLICATION_CREDENTIAL_ID: made.id, OS_APPLICATION_CREDENTIAL_SECRET: made.secret },
    async [Symbol.asyncDispose](): Promise<void> {
      if (!gone) await got.delete(`${url}/${made.id}`, { headers });
      gone = true;
    },
  };
}
