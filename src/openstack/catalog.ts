/** Where a service is: its entry in the token's catalogue, or what the configuration says instead. */
import { z } from 'zod';
import type { CloudConfig } from './cloud-config.ts';
import { OpenstackError } from './openstack-error.ts';

export const catalogShape = z.array(
  z.looseObject({
    type: z.string(),
    name: z.string().optional(),
    endpoints: z.array(
      z.looseObject({
        interface: z.string(),
        url: z.string(),
        region: z.string().nullish(),
        region_id: z.string().nullish(),
      }),
    ),
  }),
);
export type Catalog = z.output<typeof catalogShape>;

/** `types`: what catalogues call it, the official name first. `root`: what our paths begin below. `api`: its name in the microversion header. */
export const SERVICES = {
  image: { types: ['image'], root: 'v2', api: 'image', perProject: false },
  volumev3: {
    types: ['block-storage', 'volumev3', 'volume', 'block-store'],
    root: 'v3',
    api: 'volume',
    perProject: true,
  },
  compute: { types: ['compute'], root: 'v2.1', api: 'compute', perProject: false },
  'key-manager': { types: ['key-manager'], root: 'v1', api: 'key-manager', perProject: false },
} as const satisfies Readonly<Record<string, ServiceFacts>>;
export type ServiceType = keyof typeof SERVICES;
type ServiceFacts = {
  readonly types: readonly string[];
  readonly root: string;
  readonly api: string;
  readonly perProject: boolean;
};

/** Base of a service's URLs, without a slash at its end. @throws SV_OPENSTACK_NOT_FOUND: neither in the catalogue nor configured */
export function endpointOf(
  service: ServiceType,
  cloud: CloudConfig,
  { catalog, projectId }: { readonly catalog: Catalog; readonly projectId?: string | undefined },
): string {
  const facts: ServiceFacts = SERVICES[service];
  const override = facts.types
    .map(type => cloud.endpoints.get(type.replaceAll('-', '_')))
    .find(url => url !== undefined);
  const url = override ?? fromCatalog(facts, cloud, catalog);
  if (url === undefined) throw nowhere(service, facts, cloud, catalog);
  return complete(url.replaceAll(/[%$]\((?:project|tenant)_id\)s/g, projectId ?? ''), facts, projectId);
}

function fromCatalog(facts: ServiceFacts, cloud: CloudConfig, catalog: Catalog): string | undefined {
  for (const type of facts.types)
    for (const entry of catalog.filter(e => e.type === type))
      for (const e of entry.endpoints)
        if (e.interface === cloud.interface && inRegion(e, cloud.region) && isUsable(e.url, facts)) return e.url;
  return undefined;
}

type Endpoint = Catalog[number]['endpoints'][number];
const regionOf = (e: Endpoint): string => e.region_id ?? e.region ?? '';
const inRegion = (e: Endpoint, region: string | undefined): boolean => region === undefined || regionOf(e) === region;

/** "volume" was also the name of versions that are no more. */
function isUsable(url: string, { root }: ServiceFacts): boolean {
  const protocol = URL.parse(url)?.protocol;
  const version = versionIn(url);
  const older = version !== undefined && version.split('.')[0] !== root.split('.')[0];
  return (protocol === 'http:' || protocol === 'https:') && !older;
}

const versionIn = (url: string): string | undefined =>
  /\/(v\d+(?:\.\d+)?)(?:\/|$)/.exec(URL.parse(url)?.pathname ?? '')?.[1];

/** Deployments register `http://host:9292`, `…/v2` and `…/v3/PROJECT` alike. */
function complete(url: string, { root, perProject }: ServiceFacts, projectId: string | undefined): string {
  const base = url.replace(/\/+$/, '');
  const versioned = versionIn(base) === undefined ? `${base}/${root}` : base;
  const ends = /\/v\d+(?:\.\d+)?$/.test(versioned);
  return perProject && ends && projectId !== undefined ? `${versioned}/${projectId}` : versioned;
}

function nowhere(service: ServiceType, facts: ServiceFacts, cloud: CloudConfig, catalog: Catalog): OpenstackError {
  const there = catalog
    .filter(entry => facts.types.includes(entry.type))
    .flatMap(entry => entry.endpoints.map(e => `${e.interface} in ${regionOf(e) || 'no region'}`));
  const wanted = `${cloud.interface}${cloud.region === undefined ? '' : ` in region "${cloud.region}"`}`;
  return new OpenstackError(
    'SV_OPENSTACK_NOT_FOUND',
    `Cannot find the ${service} service of the cloud "${cloud.name}": the catalogue has no ${wanted} endpoint, ${there.length === 0 ? 'and no such service' : `it has ${[...new Set(there)].join(', ')}`}`,
    {
      status: 0,
      field: cloud.region === undefined ? 'interface' : 'region_name',
      remedy: `correct interface and region_name, or set ${(facts.types[0] ?? service).replaceAll('-', '_')}_endpoint_override`,
    },
  );
}
