/** Servers, volumes and images, as a user of the cloud makes them: Nova's, Cinder's and Glance's REST APIs. */
import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import * as z from 'zod';
import { ApiError, type CloudApi } from '../rig/cloud/api.ts';
import { waited } from './waited.ts';

const SERVER = z
  .object({
    id: z.string(),
    name: z.string(),
    status: z.string(),
    fault: z.object({ message: z.string() }).optional(),
    'OS-EXT-STS:task_state': z.string().nullable(),
    'OS-EXT-STS:power_state': z.number(),
    'OS-EXT-SRV-ATTR:host': z.string().nullable(),
    'OS-EXT-SRV-ATTR:instance_name': z.string(),
  })
  .transform(s => ({
    id: s.id,
    name: s.name,
    status: s.status,
    fault: s.fault?.message,
    task: s['OS-EXT-STS:task_state'],
    /** 1: running, 3: paused, 4: shut down */
    power: s['OS-EXT-STS:power_state'],
    host: s['OS-EXT-SRV-ATTR:host'] ?? '',
    /** The container's name. */
    instance: s['OS-EXT-SRV-ATTR:instance_name'],
  }));
export type Server = z.output<typeof SERVER>;
const ONE_SERVER = z.object({ server: SERVER });
const ALL_SERVERS = z.object({ servers: z.array(SERVER) });
const MADE_SERVER = z.object({ server: z.object({ id: z.string() }) });
const VOLUME = z.object({ volume: z.object({ id: z.string(), status: z.string(), size: z.number() }) });
const IMAGE = z.object({ id: z.string(), status: z.string(), size: z.number().nullable() });
const ACTIONS = z.object({
  instanceActions: z.array(z.object({ action: z.string(), message: z.string().nullable() })),
});

export type Boot = {
  readonly name: string;
  readonly image?: string;
  readonly flavor?: string;
  /** Past the scheduler. */
  readonly host?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly volumes?: readonly object[];
  readonly userData?: string;
};

export class Servers {
  readonly #api: CloudApi;

  constructor(api: CloudApi) {
    this.#api = api;
  }

  /** Asks for it; returns its id at once. */
  async ask(boot: Boot): Promise<string> {
    const server = {
      name: boot.name,
      flavorRef: boot.flavor ?? 't1',
      networks: 'none',
      ...(boot.image === undefined ? {} : { imageRef: boot.image }),
      ...(boot.host === undefined ? {} : { host: boot.host }),
      ...(boot.metadata === undefined ? {} : { metadata: boot.metadata }),
      ...(boot.volumes === undefined ? {} : { block_device_mapping_v2: boot.volumes }),
      ...(boot.userData === undefined ? {} : { user_data: Buffer.from(boot.userData).toString('base64') }),
    };
    return MADE_SERVER.parse(await this.#api.post('nova', '/servers', { server })).server.id;
  }

  async boot(boot: Boot): Promise<Server> {
    return await this.settled(await this.ask(boot), 'ACTIVE');
  }

  async get(id: string): Promise<Server> {
    return ONE_SERVER.parse(await this.#api.get('nova', `/servers/${id}`)).server;
  }

  async list(): Promise<readonly Server[]> {
    return ALL_SERVERS.parse(await this.#api.get('nova', '/servers/detail?all_tenants=1')).servers;
  }

  /** When nothing is under way with it. @throws with its fault, where it is in ERROR and that was not expected */
  async settled(id: string, status: string): Promise<Server> {
    return await waited(`server ${id} to be ${status}`, async () => {
      const server = await this.get(id);
      if (server.status === 'ERROR' && status !== 'ERROR' && server.task === null)
        throw new Error(`server ${server.name} is in ERROR: ${server.fault}`);
      return server.status === status && server.task === null ? server : undefined;
    });
  }

  async act(id: string, action: object): Promise<void> {
    await this.#api.post('nova', `/servers/${id}/action`, action);
  }

  /** Refused at once or later, or done: for the caller to look at. */
  async tryAct(id: string, action: object): Promise<void> {
    try {
      await this.act(id, action);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }

  /** When this is under way. */
  async underWay(id: string, task: string): Promise<void> {
    await waited(`server ${id} to be ${task}`, async () => (await this.get(id)).task === task);
  }

  /** A boot that has come to its end, good or bad. */
  async ended(id: string): Promise<Server> {
    return await waited(`server ${id} to be made`, async () => {
      const server = await this.get(id);
      return server.task === null && server.status !== 'BUILD' ? server : undefined;
    });
  }

  /** The action, and the status that follows from it, on that host. @throws where Nova says that the action failed, whatever the status is then */
  async change(id: string, action: object, status: string, host?: string): Promise<Server> {
    const name = Object.keys(action)[0];
    const before = (await this.#actions(id)).length;
    await this.act(id, action);
    return await waited(`${name} to make ${id} ${status}`, async () => {
      const [server, actions] = [await this.get(id), await this.#actions(id)];
      if (server.task !== null || actions.length === before) return undefined;
      if (server.status === status && (host === undefined || server.host === host)) return server;
      if (actions[0]?.message)
        throw new Error(`${name}: the server is ${server.status}: ${server.fault ?? 'see Nova’s log'}`);
      return undefined;
    });
  }

  /** Newest first; the message is there where it failed. */
  async #actions(id: string): Promise<z.output<typeof ACTIONS>['instanceActions']> {
    return ACTIONS.parse(await this.#api.get('nova', `/servers/${id}/os-instance-actions`)).instanceActions;
  }

  /** Nova deletes softly here, in a step of its own: this is for good. */
  async delete(id: string): Promise<void> {
    await this.act(id, { forceDelete: null });
    await waited(`server ${id} to be gone`, async () => !(await this.#api.exists('nova', `/servers/${id}`)));
  }

  async attach(id: string, volume: string): Promise<void> {
    await this.#api.post('nova', `/servers/${id}/os-volume_attachments`, { volumeAttachment: { volumeId: volume } });
    await this.volumeIs(volume, 'in-use');
  }

  /** One that is not expected to go well. */
  async tryAttach(id: string, volume: string): Promise<void> {
    try {
      await this.#api.post('nova', `/servers/${id}/os-volume_attachments`, { volumeAttachment: { volumeId: volume } });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return;
    }
    await waited(`the attach of ${volume} to end`, async () => {
      const { volume: seen } = VOLUME.parse(await this.#api.get('cinder', `/volumes/${volume}`));
      return !['reserved', 'attaching'].includes(seen.status);
    });
  }

  async detach(id: string, volume: string): Promise<void> {
    await this.#api.delete('nova', `/servers/${id}/os-volume_attachments/${volume}`);
    await this.volumeIs(volume, 'available');
  }

  /** One that is not expected to go well. */
  async tryDetach(id: string, volume: string): Promise<void> {
    await this.#api.delete('nova', `/servers/${id}/os-volume_attachments/${volume}`);
    await waited(`the detach of ${volume} to end`, async () => {
      const { volume: seen } = VOLUME.parse(await this.#api.get('cinder', `/volumes/${volume}`));
      return ['in-use', 'available'].includes(seen.status) && (await this.get(id)).task === null;
    });
  }

  async console(id: string): Promise<string> {
    const output = z.object({ output: z.string() });
    return output.parse(await this.#api.post('nova', `/servers/${id}/action`, { 'os-getConsoleOutput': {} })).output;
  }

  /** One GiB unless told otherwise, blank. */
  async volume(name: string, more: object = {}): Promise<string> {
    const { volume } = VOLUME.parse(await this.#api.post('cinder', '/volumes', { volume: { name, size: 1, ...more } }));
    await this.volumeIs(volume.id, 'available');
    return volume.id;
  }

  async volumeIs(id: string, status: string): Promise<void> {
    let last = '';
    await waited(`volume ${id} to be ${status}`, async () => {
      last = VOLUME.parse(await this.#api.get('cinder', `/volumes/${id}`)).volume.status;
      if (last.startsWith('error')) throw new Error(`volume ${id} is ${last}`);
      return last === status;
    });
  }

  async deleteVolume(id: string): Promise<void> {
    await this.#api.delete('cinder', `/volumes/${id}`);
    await waited(`volume ${id} to be gone`, async () => !(await this.#api.exists('cinder', `/volumes/${id}`)));
  }

  async upload(name: string, file: string, diskFormat: 'raw' | 'qcow2'): Promise<string> {
    const facts = { name, disk_format: diskFormat, container_format: 'bare', visibility: 'public' };
    const { id } = IMAGE.parse(await this.#api.post('glance', '/images', facts));
    const headers = { 'Content-Type': 'application/octet-stream' };
    await this.#api.put('glance', `/images/${id}/file`, { body: createReadStream(file), headers });
    return id;
  }

  /** `server image create`: the new image, when it is whole. */
  async snapshot(id: string, name: string): Promise<string> {
    const made = z.object({ image_id: z.string() });
    const { image_id } = made.parse(await this.#api.post('nova', `/servers/${id}/action`, { createImage: { name } }));
    await waited(`image ${name} to be active`, async () => {
      const { status } = IMAGE.parse(await this.#api.get('glance', `/images/${image_id}`));
      assert.ok(['queued', 'saving', 'active'].includes(status), `image ${name} is ${status}`);
      return status === 'active';
    });
    await this.settled(id, 'ACTIVE');
    return image_id;
  }

  /** `openstack server delete`. */
  async softDelete(id: string): Promise<Server> {
    await this.#api.delete('nova', `/servers/${id}`);
    return await this.settled(id, 'SOFT_DELETED');
  }

  /** `openstack volume set --size`, in GiB. */
  async enlargeVolume(id: string, size: number): Promise<void> {
    await this.#api.post('cinder', `/volumes/${id}/action`, { 'os-extend': { new_size: size } });
    await waited(`volume ${id} to have ${size} GiB`, async () => {
      const { volume } = VOLUME.parse(await this.#api.get('cinder', `/volumes/${id}`));
      assert.ok(!volume.status.startsWith('error'), `volume ${id} is ${volume.status}`);
      return volume.size === size && volume.status !== 'extending';
    });
  }

  /** While `work` runs nothing is put on this host. */
  async without<T>(host: string, work: () => Promise<T>): Promise<T> {
    await this.#setService(host, { status: 'disabled' });
    try {
      return await work();
    } finally {
      await this.#setService(host, { status: 'enabled' });
    }
  }

  /** What an operator says of a host that he knows to be dead, so that Nova need not find out. */
  async forceDown(host: string): Promise<void> {
    await this.#setService(host, { forced_down: true });
  }

  /** False: Nova does not let it up yet. */
  async tryForceUp(host: string): Promise<boolean> {
    try {
      await this.#setService(host, { forced_down: false });
      return true;
    } catch (error) {
      if (error instanceof ApiError && error.status === 400) return false;
      throw error;
    }
  }

  async #setService(host: string, json: object): Promise<void> {
    const services = z.object({ services: z.array(z.object({ id: z.string() })) });
    const found = services.parse(await this.#api.get('nova', `/os-services?binary=nova-compute&host=${host}`));
    await this.#api.put('nova', `/os-services/${found.services[0]?.id}`, { json });
  }

  async flavor(
    name: string,
    facts: { ramMb: number; diskGb: number; specs?: Readonly<Record<string, string>> },
  ): Promise<void> {
    if (await this.#api.exists('nova', `/flavors/${name}`)) return;
    const flavor = { id: name, name, vcpus: 1, ram: facts.ramMb, disk: facts.diskGb };
    await this.#api.post('nova', '/flavors', { flavor });
    if (facts.specs) await this.#api.post('nova', `/flavors/${name}/os-extra_specs`, { extra_specs: facts.specs });
  }
}
