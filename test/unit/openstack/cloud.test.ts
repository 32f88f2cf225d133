import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { inspect } from 'node:util';
import { explain, isError, report } from '../../../src/errors.ts';
import { type CloudFiles, findCloud } from '../../../src/openstack/cloud.ts';
import type { Auth } from '../../../src/openstack/cloud-config.ts';

const dir = mkdtempSync(join(tmpdir(), 'shiftvol-clouds-'));
after(() => rmSync(dir, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(dir, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, text);
  return path;
}

const CLOUDS = `
clouds:
  lab:
    region_name: RegionOne
    interface: internal
    cacert: /etc/ssl/lab.pem
    block_storage_endpoint_override: https://cinder.lab/v3
    auth: { auth_url: https://keystone.lab:5000, username: demo, project_name: demo, user_domain_name: Default, project_domain_name: Default }
  edge:
    auth_type: v3applicationcredential
    verify: false
    auth: { auth_url: https://edge/v3/, application_credential_id: abc }
`;
const SECURE = `
clouds:
  lab: { auth: { password: lab-password } }
  edge: { auth: { application_credential_secret: edge-secret } }
`;
const files: CloudFiles = {
  clouds: [join(dir, 'none.yaml'), file('clouds.yaml', CLOUDS)],
  secure: [file('secure.yaml', SECURE)],
};
const secretOf = (auth: Auth): string => {
  if (auth.method === 'password') return auth.password.reveal();
  return auth.method === 'token' ? auth.token.reveal() : auth.secret.reveal();
};

test('a cloud of clouds.yaml gets its secrets from secure.yaml', () => {
  const lab = findCloud({ env: {}, cloud: 'lab', files });

  assert.equal(lab.authUrl, 'https://keystone.lab:5000/v3');
  assert.equal(lab.interface, 'internal');
  assert.equal(lab.region, 'RegionOne');
  assert.deepEqual(lab.tls, { verify: true, ca: '/etc/ssl/lab.pem' });
  assert.deepEqual([...lab.endpoints], [['block_storage', 'https://cinder.lab/v3']]);
  assert.equal(secretOf(lab.auth), 'lab-password');
  const domain = { name: 'Default' };
  assert.deepEqual(lab.auth.method === 'password' && [lab.auth.user, lab.auth.scope], [
    { name: 'demo', domain },
    { kind: 'project', project: { name: 'demo', domain } },
  ]);
});

test('an application credential is read, and "verify: false"', () => {
  const edge = findCloud({ env: { OS_CLOUD: 'edge' }, files });

  assert.equal(edge.authUrl, 'https://edge/v3');
  assert.equal(edge.tls.verify, false);
  assert.deepEqual(edge.auth.method === 'application_credential' && edge.auth.credential, { id: 'abc' });
  assert.equal(secretOf(edge.auth), 'edge-secret');
});

test('OS_* variables describe a cloud of their own, which goes before the files unless one is named', () => {
  const env = { OS_AUTH_URL: 'http://k:5000/v3', OS_USERNAME: 'u', OS_PASSWORD: 'p-of-env', OS_PROJECT_ID: 'p1' };

  assert.equal(findCloud({ env, files }).name, 'envvars');
  assert.equal(findCloud({ env: { ...env, OS_CLOUD: 'lab' }, files }).name, 'lab');
  assert.equal(findCloud({ env: { ...env, OS_CLOUD: 'edge' }, cloud: 'lab', files }).name, 'lab');
  const { auth } = findCloud({ env, files });
  assert.deepEqual(auth.method === 'password' && auth.user, { name: 'u', domain: { id: 'default' } });
});

test('the auth URL gets its version, whatever it comes with', () => {
  const urlOf = (OS_AUTH_URL: string) => findCloud({ env: { OS_AUTH_URL, OS_TOKEN: 't' } }).authUrl;

  for (const url of ['http://k:5000', 'http://k:5000/', 'http://k:5000/v3', 'http://k:5000/v3/', 'http://k:5000/v2.0'])
    assert.equal(urlOf(url), 'http://k:5000/v3', url);
  assert.equal(urlOf('https://cloud/identity'), 'https://cloud/identity/v3');
});

test('the places are those of openstacksdk, in its order', () => {
  const home = join(dir, 'home');
  const named = file('named.yaml', 'clouds: { named: { auth: { auth_url: "http://named", token: t } } }');
  file('home/.config/openstack/clouds.yaml', 'clouds: { home: { auth: { auth_url: "http://home", token: t } } }');

  assert.equal(findCloud({ env: { HOME: home } }).name, 'home');
  assert.equal(findCloud({ env: { HOME: home, OS_CLIENT_CONFIG_FILE: named } }).name, 'named');
  assert.equal(findCloud({ env: { HOME: '/', XDG_CONFIG_HOME: join(home, '.config') } }).name, 'home');
});

test('a profile of clouds-public.yaml lies below the cloud', () => {
  const clouds = file('p.yaml', 'clouds: { mine: { profile: big, region_name: r2, auth: { token: t } } }');
  const vendor = file(
    'public.yaml',
    'public-clouds: { big: { region_name: r1, interface: admin, auth: { auth_url: "https://big" } } }',
  );

  const mine = findCloud({ env: {}, files: { clouds: [clouds], vendor: [vendor] } });

  assert.deepEqual([mine.authUrl, mine.region, mine.interface], ['https://big/v3', 'r2', 'admin']);
});

const auth = 'auth_url: "http://k", username: u, password: pw-that-must-not-show';
const WRONG: readonly (readonly [what: string, yaml: string, says: RegExp])[] = [
  ['no auth_url', 'clouds: { c: { auth: { token: pw-that-must-not-show } } }', /"auth_url": nothing/],
  ['auth_url of another kind', 'clouds: { c: { auth: { auth_url: "ftp://k", token: t } } }', /http or https/],
  ['no password', 'clouds: { c: { auth: { auth_url: "http://k", username: u } } }', /"password": nothing/],
  ['no user', 'clouds: { c: { auth: { auth_url: "http://k", password: pw-that-must-not-show } } }', /"username"/],
  ['an interface that is none', `clouds: { c: { interface: inner, auth: { ${auth} } } }`, /"interface": "inner"/],
  ['version 2', `clouds: { c: { identity_api_version: 2, auth: { ${auth} } } }`, /"identity_api_version": 2/],
  ['a plugin that is not known', `clouds: { c: { auth_type: v3kerberos, auth: { ${auth} } } }`, /"v3kerberos"/],
  ['an override that is no URL', `clouds: { c: { image_endpoint_override: here, auth: { ${auth} } } }`, /override/],
  ['a profile that is not there', `clouds: { c: { profile: vexxhost, auth: { ${auth} } } }`, /profile/],
  ['a list', 'clouds: [a]', /mapping of clouds/],
  ['a text', 'nothing', /mapping of keys/],
  ['no YAML', `clouds:\n  c:\n    auth: { ${auth}`, /Cannot read .*:\d+/],
  ['verify that is no switch', `clouds: { c: { verify: maybe, auth: { ${auth} } } }`, /"verify"/],
];
for (const [i, [what, yaml, says]] of WRONG.entries())
  test(`refused, naming file and key and no password: ${what}`, () => {
    const path = file(`wrong-${i}.yaml`, yaml);

    assert.throws(
      () => findCloud({ env: {}, cloud: 'c', files: { clouds: [path] } }),
      error => {
        assert.ok(isError(error, 'SV_CONFIG'), String(error));
        assert.match(error.message, says);
        assert.ok(error.message.includes(path) || what.includes('profile'), error.message);
        assert.doesNotMatch(
          explain(error) + inspect(error, { depth: 9 }) + JSON.stringify(report(error)),
          /must-not-show/,
        );
        return true;
      },
    );
  });

test('which of several is meant has to be said; a name that is not there is told with those that are', () => {
  assert.throws(() => findCloud({ env: {}, files }), /Cannot tell which OpenStack is meant: .* has lab, edge/);
  assert.throws(() => findCloud({ env: {}, cloud: 'labb', files }), /Cannot find the cloud "labb": .* has lab, edge/);
  assert.throws(() => findCloud({ env: {}, files: { clouds: [] } }), /neither OS_\* variables nor a clouds.yaml/);
});

test('what is found does not show its secrets, however it is printed', () => {
  const lab = findCloud({ env: {}, cloud: 'lab', files });

  for (const shown of [inspect(lab, { depth: 9, showHidden: true }), JSON.stringify(lab), `${inspect(lab.auth)}`])
    assert.doesNotMatch(shown, /lab-password/);
});
