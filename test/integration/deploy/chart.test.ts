import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { load } from 'js-yaml';
import { HELM_VERSIONS, type Helm, helm } from '../../rig/helm.ts';
import { checkManifests, isMapping, type Manifest, parseManifests } from '../../rig/manifests.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const CHART = join(ROOT, 'deploy/helm/shiftvol');
const FIXTURES = join(ROOT, 'test/fixtures/helm');
/** `SHIFTVOL_UPDATE_GOLDEN=1 node --test …` writes what is rendered now; git shows what is different. */
const UPDATE = process.env['SHIFTVOL_UPDATE_GOLDEN'] === '1';
const SETS = readdirSync(FIXTURES)
  .filter(name => name.endsWith('.values.yaml'))
  .map(name => name.replace('.values.yaml', ''));

const [newest, ...older] = HELM_VERSIONS.map(helm);
assert.ok(newest);
const valuesOf = (set: string) => ['-f', join(FIXTURES, `${set}.values.yaml`)];
const render = (by: Helm, ...args: readonly string[]) => by.run('template', 'sv', CHART, '-n', 'openstack', ...args);

function rendered(by: Helm, ...args: readonly string[]): readonly Manifest[] {
  const { status, stdout, stderr } = render(by, ...args);
  assert.equal(status, 0, stderr);
  return parseManifests(stdout);
}

/** What lies on the way of `keys` in a manifest. */
function at(value: unknown, ...keys: readonly (string | number)[]): unknown {
  let found = value;
  for (const key of keys)
    found = Array.isArray(found) ? found[Number(key)] : isMapping(found) ? found[String(key)] : undefined;
  return found;
}
const find = (manifests: readonly Manifest[], kind: string) => manifests.find(m => m.kind === kind);
const setting = (...pairs: readonly string[]) => pairs.flatMap(pair => ['--set', pair]);

for (const by of [newest, ...older])
  describe(`helm ${by.version}`, () => {
    test('finds nothing to say against the chart', () => {
      const { status, stdout, stderr } = by.run('lint', '--strict', CHART);

      assert.equal(status, 0, stdout + stderr);
    });

    for (const set of SETS)
      test(`renders the values "${set}" as they were looked at`, () => {
        const golden = join(FIXTURES, `${set}.golden.yaml`);
        const { status, stdout, stderr } = render(by, ...valuesOf(set));
        assert.equal(status, 0, stderr);

        if (UPDATE && by === newest) writeFileSync(golden, stdout);
        assert.ok(existsSync(golden), `${golden} is missing: run it with SHIFTVOL_UPDATE_GOLDEN=1, and look at it`);
        // The same objects; the order of documents is each helm's own.
        const sorted = (text: string) =>
          parseManifests(text)
            .map(m => JSON.stringify(m))
            .toSorted();
        assert.deepEqual(sorted(stdout), sorted(readFileSync(golden, 'utf8')));
      });

    const wrong: readonly (readonly [what: string, args: readonly string[], says: RegExp])[] = [
      ['a key that does not exist', setting('agent.hostname=x'), /agent.*hostname.*not allowed/i],
      ['a key of plugin.yaml that does not exist', setting('conf.bus.prefetsch=1'), /prefetsch.*not allowed/],
      ['a password in conf', setting('conf.bus.url=rabbit://a:b@c/'), /bus.*url.*not allowed/],
      ['an access that is none', setting('agent.access=root'), /access/],
      ['device access by a plugin that is not named', setting('agent.access=plugin'), /deviceResource/],
      ['a capability that is none', setting('agent.capabilities={SYS_EVERYTHING}'), /capabilities/],
      ['a transport URL of another kind', setting('transport.url=http://rabbit/'), /transport.*url/],
      ['a relative run directory', setting('agent.paths.run=run'), /paths.*run/],
      ['a port that is none', setting('monitoring.port=99999'), /port/],
      ['a router as root', setting('router.runAsUser=0'), /runAsUser/],
      ['a router without a broker', setting('router.enabled=true'), /a router needs a broker: set transport\.url/],
      [
        'an endpoint without a user',
        setting('endpoints.oslo_messaging.hosts.default=rabbitmq'),
        /auth\.shiftvol\.username: needed/,
      ],
    ];
    for (const [what, args, says] of wrong)
      test(`refuses ${what}, and says where`, () => {
        const { status, stderr } = render(by, ...args);

        assert.notEqual(status, 0);
        assert.match(stderr.replaceAll('\n', ' '), says);
      });
  });

test('every object that is rendered is one of Kubernetes’ own types, field by field', () => {
  const sets = Object.fromEntries(SETS.map(set => [set, rendered(newest, ...valuesOf(set))]));
  assert.ok(SETS.length >= 8);

  const { errors, checked, foreign } = checkManifests(sets);

  assert.equal(errors, '');
  assert.ok(checked > 40, `${checked} were checked`);
  assert.deepEqual(foreign, ['PodMonitor', 'PrometheusRule', 'ServiceMonitor']);
});

test('a field that Kubernetes does not have is found', () => {
  const wrong = { apiVersion: 'v1', kind: 'Pod', spec: { hostPid: true, containers: [] } };

  assert.match(checkManifests({ wrong: [wrong] }).errors, /hostPid/);
});

test('no password is rendered outside of a Secret', () => {
  for (const set of SETS)
    for (const manifest of rendered(newest, ...valuesOf(set)).filter(m => m.kind !== 'Secret')) {
      const text = JSON.stringify(manifest);
      assert.doesNotMatch(
        text,
        /rabbit:\/\/|p@ss|p%40ss|:password@|user:(?:one|two|three)/,
        `${set}: ${manifest.kind}`,
      );
    }
});

test('OpenStack-Helm’s endpoint becomes a URL with every replica in it, its parts percent-encoded', () => {
  const secret = find(rendered(newest, ...valuesOf('openstack-helm')), 'Secret');

  const server = (n: number) =>
    `shiftvol:p%40ss%20w%2Frd@rabbitmq-rabbitmq-${n}.rabbitmq.openstack.svc.cluster.local:5672`;
  assert.equal(at(secret, 'stringData', 'transport_url'), `rabbit://${server(0)},${server(1)}/nova`);
});

test('several URLs to listen on are in a plugin.yaml that is a Secret, and in no variable', () => {
  const manifests = rendered(newest, ...valuesOf('several-vhosts'));

  assert.equal(find(manifests, 'ConfigMap'), undefined);
  const plugin = load(String(at(find(manifests, 'Secret'), 'stringData', 'plugin.yaml')));
  assert.equal(at(plugin, 'bus', 'url'), 'rabbit://user:one@rabbit:5672/shiftvol');
  assert.equal(at(plugin, 'bus', 'source'), 'router');
  const agent = at(find(manifests, 'DaemonSet'), 'spec', 'template', 'spec', 'containers', 0, 'env');
  assert.doesNotMatch(JSON.stringify(agent), /TRANSPORT_URL/);
});

test('a privileged agent keeps the listed capabilities alone; with a device plugin it gets them alone', () => {
  const values: unknown = load(readFileSync(join(CHART, 'values.yaml'), 'utf8'));
  const listed = at(values, 'agent', 'capabilities');
  assert.ok(Array.isArray(listed));
  const container = (set: string) =>
    at(find(rendered(newest, ...valuesOf(set)), 'DaemonSet'), 'spec', 'template', 'spec', 'containers', 0);

  const bounded = String(at(container('default'), 'command', 1));
  assert.equal(
    bounded,
    `--bounding-set=-all,${listed
      .toSorted()
      .map(c => `+${c.toLowerCase()}`)
      .join(',')}`,
  );
  const security = at(container('plugin-access'), 'securityContext');
  assert.deepEqual(at(security, 'capabilities'), { drop: ['ALL'], add: listed.toSorted() });
  assert.equal(at(security, 'privileged'), false);
  assert.equal(at(container('plugin-access'), 'command', 0), '/usr/bin/shiftvol');
});

test('where a program in the pod serves a volume no pod is replaced by itself', () => {
  const strategy = (...args: readonly string[]) =>
    at(find(rendered(newest, ...args), 'DaemonSet'), 'spec', 'updateStrategy', 'type');

  assert.equal(strategy(), 'RollingUpdate');
  assert.equal(strategy(...setting('agent.connectors.nbd=true')), 'OnDelete');
});

/** Keys of plugin.yaml that other values set: those with a password in them, and those that the pod's mounts depend on. */
const ELSEWHERE = [
  ...['name', 'version', 'capabilities', 'state_dir', 'run_dir'],
  ...['bus.listen', 'bus.url', 'bus.management_url', 'rpc.url'],
];

test('the chart’s conf takes the keys of plugin.yaml, less those that other values set', () => {
  const file = join(CHART, 'values.schema.json');
  const wanted = schemaOf(load(readFileSync(join(ROOT, 'plugin.yaml'), 'utf8')));
  const schema: unknown = JSON.parse(readFileSync(file, 'utf8'));
  assert.ok(isMapping(schema) && isMapping(schema['properties']));

  if (UPDATE) {
    const properties = { ...schema['properties'], conf: wanted };
    writeFileSync(file, `${JSON.stringify({ ...schema, properties }, null, 1)}\n`);
  } else assert.deepEqual(at(schema, 'properties', 'conf'), wanted, 'run it with SHIFTVOL_UPDATE_GOLDEN=1');
});

/** Of a mapping its keys, and no others; what a value may be is the agent's own to say. */
function schemaOf(node: unknown, path: readonly string[] = []): object {
  if (!isMapping(node)) return {};
  const below = Object.entries(node).filter(([key]) => !ELSEWHERE.includes([...path, key].join('.')));
  const properties = Object.fromEntries(below.map(([key, child]) => [key, schemaOf(child, [...path, key])]));
  return { type: 'object', additionalProperties: false, properties };
}

test('every key of the schema is in values.yaml, where its meaning stands', () => {
  const schema: unknown = JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8'));
  const values: unknown = load(readFileSync(join(CHART, 'values.yaml'), 'utf8'));
  const properties = at(schema, 'properties');
  assert.ok(isMapping(properties) && isMapping(values));

  assert.deepEqual(
    Object.keys(properties)
      .filter(key => key !== 'global')
      .toSorted(),
    Object.keys(values).toSorted(),
  );
});
