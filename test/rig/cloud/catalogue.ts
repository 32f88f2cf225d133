/** Users, roles and endpoints of the services in Keystone. What is there is left, or put right. */
import { z } from 'zod';
import type { CloudApi } from './api.ts';
import { type CloudSettings, catalogue, PASSWORD, REGION } from './settings.ts';

const SERVICE_USERS = ['nova', 'placement', 'glance', 'cinder', 'neutron', 'barbican'] as const;
const NAMED = z.array(z.object({ id: z.string(), name: z.string().optional() }));
const MADE = z.object({ id: z.string() });
const ENDPOINTS = z.object({
  endpoints: z.array(z.object({ id: z.string(), interface: z.string(), url: z.string() })),
});

export async function fillCatalogue(settings: CloudSettings, api: CloudApi): Promise<void> {
  const ensure = async (kind: string, name: string, more: object = {}): Promise<string> => {
    const path = `/${kind}s`;
    const found = NAMED.parse((await api.get('keystone', `${path}?name=${name}`))[`${kind}s`])[0];
    return found?.id ?? MADE.parse((await api.post('keystone', path, { [kind]: { name, ...more } }))[kind]).id;
  };
  const roles = [await ensure('role', 'admin'), await ensure('role', 'service')];
  const project = await ensure('project', 'service', { domain_id: 'default' });
  for (const name of SERVICE_USERS) {
    const user = await ensure('user', name, { domain_id: 'default', password: PASSWORD });
    for (const role of roles) await api.put('keystone', `/projects/${project}/users/${user}/roles/${role}`, {});
  }
  for (const { type, name, url } of catalogue(settings)) {
    const service = await ensure('service', name, { type });
    const { endpoints } = ENDPOINTS.parse(await api.get('keystone', `/endpoints?service_id=${service}`));
    for (const iface of ['public', 'internal', 'admin']) {
      const there = endpoints.find(e => e.interface === iface);
      const endpoint = { service_id: service, interface: iface, region_id: REGION, url };
      if (there === undefined) await api.post('keystone', '/endpoints', { endpoint });
      else if (there.url !== url) await api.call('keystone', 'PATCH', `/endpoints/${there.id}`, { json: { endpoint } });
    }
  }
}
