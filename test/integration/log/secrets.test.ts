/**
 * No secret of anybody is where it must not be: an agent, a router and the command line do their work and run into every kind of trouble, with
 * passwords, keys and tokens that are found again wherever they turn up.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ask } from '../../e2e/ask.ts';
import { legacy } from '../../e2e/notes.ts';
import { type Agent, CLI, makeWorld, type World } from '../../e2e/world.ts';
import { type Rabbit, startRabbit } from '../../rig/rabbit.ts';
import { bodyOf, JSON_PROPERTIES, rawChannel, until } from '../bus/helpers.ts';
import { type Watch, watchProcesses } from './processes.ts';

const unique = (name: string, more = '') => `${name}${randomBytes(12).toString('hex')}${more}`;
/** With what a URL has to encode. */
const SECRETS = {
  transport: unique('transport', '/@:%'),
  management: unique('management'),
  wrong: unique('wrong'),
  cloud: unique('cloud', '"\''),
  secure: unique('secure'),
  application: unique('application'),
  chap: unique('chap'),
  cephx: `AQ${randomBytes(26).toString('base64')}`,
  luks: unique('luks'),
  token: unique('token'),
  otlp: unique('otlp'),
} as const;
const IQN = `iqn.2026-11.test:${randomBytes(6).toString('hex')}`;
const VOLUME = '701a0000-0000-4000-8000-00000000000';
const ISCSI = ['/etc/iscsi/nodes', '/var/lib/iscsi/nodes'];
const INSTANCE = '0c0ffee0-0000-4000-8000-000000000001';

const scope = new AsyncDisposableStack();
/** All that anybody was told: by name, what it is that was told. */
const told = new Map<string, string>();
let world: World;
let rabbit: Rabbit;
let agent: Agent;
let watch: Watch;
let transport: string;

before(async () => {
  [world, rabbit] = await Promise.all([makeWorld(), startRabbit({ management: true })]);
  scope.use(world);
  scope.use(rabbit);
  scope.defer(() => {
    for (const base of ISCSI) rmSync(join(base, IQN), { recursive: true, force: true });
  });
  await addUser(SECRETS.transport);
  transport = `rabbit://shiftvol:${encodeURIComponent(SECRETS.transport)}@127.0.0.1:${rabbit.port}/`;
  await world.addTemplate('web', { files: 20 });
  await world.lxd.launch('c1', { 'user.nova_uuid': INSTANCE });
  const keystone = await startKeystone();
  writeClouds(keystone);
  mkdirSync(join(world.dir, 'keys'), { mode: 0o700 });
  writeFileSync(join(world.dir, 'keys', `${VOLUME}3`), SECRETS.luks, { mode: 0o600 });
  Object.assign(world.env, {
    SHIFTVOL_TRANSPORT_URL: transport,
    SHIFTVOL_MANAGEMENT_URL: rabbit.managementUrl?.replace('guest:guest', `shiftvol:${SECRETS.management}`),
    SHIFTVOL_CONFIG: join(world.dir, 'plugin.yaml'),
    OS_CLIENT_CONFIG_FILE: join(world.dir, 'clouds.yaml'),
    OS_CLIENT_SECURE_FILE: join(world.dir, 'secure.yaml'),
    OS_CLOUD: 'one',
    OTEL_EXPORTER_OTLP_ENDPOINT: `${keystone}/otlp`,
    OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${SECRETS.otlp}`,
  });
  watch = scope.use(watchProcesses(CLI));
  agent = await world.agent(CONFIG());
  scope.defer(() => agent[Symbol.asyncDispose]());
  await until('it answers', () => / answers RPC /.test(agent.log()));
});
after(async () => {
  await scope.disposeAsync();
});

const CONFIG = () =>
  JSON.stringify({
    nova: { enabled: true, address: '127.0.0.1' },
    volumes: { keys_dir: join(world.dir, 'keys'), local_paths: [`${world.dir}/*`] },
    bus: { rebind_ms: 100, reconnect: { min_ms: 200, max_ms: 1000, timeout_ms: 1000 } },
  });

async function addUser(password: string): Promise<void> {
  const put = async (path: string, body: object) => {
    const response = await fetch(`${rabbit.managementUrl?.replace('guest:guest@', '')}/api/${path}`, {
      method: 'PUT',
      headers: { authorization: `Basic ${btoa('guest:guest')}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    assert.ok(response.ok, `${path}: ${response.status}`);
  };
  await put('users/shiftvol', { password, tags: 'administrator' });
  await put('permissions/%2F/shiftvol', { configure: '.*', write: '.*', read: '.*' });
}

/** Takes no credentials, and says so at length. */
async function startKeystone(): Promise<string> {
  const server = createServer((request, response) => {
    request.resume().once('end', () => {
      const body = {
        error: { code: 401, title: 'Unauthorized', message: 'The request you have made requires authentication.' },
      };
      response.writeHead(401, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  scope.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`; // of a server on TCP
}

function writeClouds(keystone: string): void {
  const auth = {
    auth_url: `${keystone}/v3`,
    username: 'u',
    project_name: 'p',
    user_domain_id: 'd',
    project_domain_id: 'd',
  };
  const application = { auth_url: `${keystone}/v3`, application_credential_id: 'x' };
  const clouds = {
    one: { auth: { ...auth, password: SECRETS.cloud } },
    two: { auth, region_name: 'r' },
    three: {
      auth_type: 'v3applicationcredential',
      auth: { ...application, application_credential_secret: SECRETS.application },
    },
  };
  const secure = { two: { auth: { password: SECRETS.secure } } };
  writeFileSync(join(world.dir, 'clouds.yaml'), JSON.stringify({ clouds }), { mode: 0o600 });
  writeFileSync(join(world.dir, 'secure.yaml'), JSON.stringify({ clouds: secure }), { mode: 0o600 });
}

/** One command, with all that it says. `env` for this one alone. */
async function run(env: NodeJS.ProcessEnv, ...args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, [CLI, ...args], {
    env: { ...world.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: world.dir,
  });
  const name = `${told.size}: ${args.join(' ')}`;
  told.set(name, '');
  const hear = (text: string) => void told.set(name, (told.get(name) ?? '') + text);
  child.stdout.setEncoding('utf8').on('data', hear);
  child.stderr.setEncoding('utf8').on('data', hear);
  return await new Promise(resolve => child.once('close', status => resolve(status ?? -1)));
}

test('work, and every kind of trouble', async t => {
  await t.test('attached and detached through the agent', async () => {
    assert.equal(await run({}, 'attach', '--snapshot', 'c1', 'web:/mnt/web', '--json'), 0, [...told.values()].at(-1));
    assert.equal(await run({}, 'list', '-v'), 0);
    assert.equal(await run({}, 'detach', 'c1:/mnt/web', '-v'), 0);
  });

  await t.test('volumes of Nova whose storage is not there, or does not take the key', async () => {
    writeFileSync(join(world.dir, 'blank.img'), Buffer.alloc(8 * 2 ** 20, 'x'));
    const at = (n: number, driver_volume_type: string, data: object) => ({
      driver_volume_type,
      serial: `${VOLUME}${n}`,
      data,
    });
    const iscsi = {
      target_portal: '127.0.0.1:1',
      target_iqn: IQN,
      target_lun: 1,
      auth_method: 'CHAP',
      auth_username: 'u',
      auth_password: SECRETS.chap,
    };
    const rbd = {
      name: 'pool/image',
      hosts: ['127.0.0.1'],
      ports: ['1'],
      auth_enabled: true,
      auth_username: 'u',
      keyring: `[client.u]\n\tkey = ${SECRETS.cephx}\n`,
    };
    for (const [info, encryption] of [
      [at(1, 'iscsi', iscsi), {}],
      [at(1, 'iscsi', { ...iscsi, auth_password: `${SECRETS.chap} blank` }), {}],
      [at(2, 'rbd', rbd), {}],
      [
        at(3, 'local', { device_path: join(world.dir, 'blank.img'), encrypted: true }),
        { provider: 'luks', control_location: 'front-end' },
      ],
    ] as const)
      await rpc({
        method: 'attach_volume',
        args: { instance: instance(), connection_info: info, mountpoint: '/dev/sdb', encryption },
      });
    await until('all have failed', () => (agent.log().match(/attach_volume failed/g) ?? []).length >= 4, 90_000);
    const secrets = { chapPassword: SECRETS.chap, keyring: SECRETS.cephx, luksPassphrase: SECRETS.luks };
    const connection = {
      type: 'iscsi',
      volumeId: `${VOLUME}4`,
      name: 'iscsi:x',
      kind: 'device',
      readOnly: false,
      facts: { paths: [`127.0.0.1:1 ${IQN} 1`], chapUser: 'u' },
    };
    const body = {
      action: 'attach',
      instance: { ref: 'c1' },
      target: '/mnt/x',
      source: { kind: 'connection', connection },
      readOnly: false,
      secrets,
    };
    for (const question of [
      { command: 'execute', body },
      { command: 'execute', body: { ...body, target: 1 } },
      { command: 'execute', body: { ...body, secrets: SECRETS.luks } },
    ])
      told.set(
        `socket ${told.size}`,
        JSON.stringify(await ask(world, question as unknown as Parameters<typeof ask>[1])),
      );
  });

  await t.test('messages that are none', async () => {
    const password = { auth_token: SECRETS.token, password: SECRETS.token };
    for (const message of [
      { method: 7, args: password, _context_auth_token: SECRETS.token },
      { method: 'no_such_method', args: password, _context_trace_info: { hmac_key: SECRETS.token } },
      { method: 'attach_volume', args: { connection_info: SECRETS.token, instance: password } },
      { method: 'spawn', args: { instance: instance(), injected_files: SECRETS.token, admin_password: SECRETS.token } },
    ])
      await rpc(message);
    await using raw = await rawChannel(rabbit.url);
    for (const text of ['{', SECRETS.token, JSON.stringify({ event_type: SECRETS.token })])
      raw.channel.publish('', 'shiftvol.node1', Buffer.from(text), JSON_PROPERTIES);
    const note = legacy('volume-attach', { instance: INSTANCE, request: 'req-1' });
    raw.channel.publish('', 'shiftvol.node1', bodyOf({ ...note, payload: password }), JSON_PROPERTIES);
    await raw.channel.waitForConfirms();
    await until('they are dropped', () => /dropped what is no request/.test(agent.log()));
  });

  await t.test('Keystone that takes no credentials', async () => {
    for (const [OS_CLOUD, how] of [
      ['one', '-v'],
      ['two', '--json'],
      ['three', '-v'],
    ] as const)
      assert.equal(await run({ OS_CLOUD }, 'template', 'import', 'x', '--from', 'glance:y', how), 1);
    writeFileSync(join(world.dir, 'torn.yaml'), `clouds:\n  one: {auth: {password: "${SECRETS.secure}"\n`);
    await run(
      { OS_CLIENT_CONFIG_FILE: join(world.dir, 'torn.yaml') },
      'template',
      'import',
      'x',
      '--from',
      'glance:y',
      '-v',
    );
    await run(
      { OS_CLOUD: '', OS_AUTH_URL: 'x', OS_USERNAME: 'u', OS_PASSWORD: SECRETS.wrong },
      'template',
      'import',
      'x',
      '--from',
      'glance:y',
      '-v',
    );
  });

  await t.test('what there is to look at', async () => {
    for (const args of [
      ['config', 'show'],
      ['config', 'check'],
      ['config', 'show', '--json'],
      ['doctor', '-v'],
      ['doctor', '--json'],
      ['health', '-v'],
      ['deadletter', 'list', '-v'],
      ['recover', '-v'],
    ])
      await run({}, ...args);
    assert.equal(await run({}, 'support-bundle', join(world.dir, 'bundle.tar.gz')), 0);
    told.set('the bundle', execFileSync('tar', ['xzOf', join(world.dir, 'bundle.tar.gz')], { encoding: 'utf8' }));
  });

  await t.test('URLs that are wrong', async () => {
    const texts = ['rabbit:/u:PW@h', 'u:PW@h', 'rabbit://u:PW@h:99999/', 'http://u:PW@h/', 'rabbit://u:PW%@h/'];
    const commands = [
      ['config', 'check', '-v'],
      ['list', '-v'],
      ['route', '--json'],
    ] as const;
    for (const [i, text] of texts.entries()) {
      const url = text.replace('PW', SECRETS.wrong);
      assert.equal(await run({ SHIFTVOL_TRANSPORT_URL: url }, ...(commands[i % commands.length] ?? [])), 2, url);
    }
    const file = join(world.dir, 'wrong.yaml');
    const wrong = `u:${SECRETS.wrong}@h`;
    const none = { SHIFTVOL_TRANSPORT_URL: '', SHIFTVOL_MANAGEMENT_URL: '' };
    for (const [i, config] of [
      { bus: { listen: `rabbit://${wrong}/` } },
      { bus: { listen: [{ url: `rabbit://${wrong}/` }] } },
      { bus: `rabbit://${wrong}/` },
      { bus: { management_url: `htp://${wrong}/` } },
      { bus: { management_url: `http:/${wrong}/` } },
      { rpc: { url: `rabbit://${wrong}:x/` } },
      { trace: { otlp_endpoint: `http://${wrong}/` } },
      { openstack: { cloud: [`http://${wrong}`] } },
    ].entries()) {
      writeFileSync(file, JSON.stringify(config));
      const how = i % 2 === 0 ? '-v' : '--json';
      assert.equal(await run(none, 'config', 'check', '--config', file, how), 2, JSON.stringify(config));
    }
    writeFileSync(file, `bus: {listen: ["rabbit://${wrong}/"\n`);
    assert.equal(await run(none, 'list', '--config', file, '-v'), 2);
  });

  await t.test('a password that is wrong, a broker that is away', async () => {
    const wrong = `rabbit://shiftvol:${SECRETS.wrong}@127.0.0.1:${rabbit.port}/`;
    await run(
      {
        SHIFTVOL_TRANSPORT_URL: wrong,
        SHIFTVOL_MANAGEMENT_URL: rabbit.managementUrl?.replace('guest@', `${SECRETS.wrong}@`),
      },
      'doctor',
      '-v',
    );
    await run({ SHIFTVOL_TRANSPORT_URL: wrong }, 'deadletter', 'list', '-v');
    const routers = [transport, wrong].map(url => router(url));
    await until('routers have tried', () => routers.every(r => /cannot be used|subscribed/.test(r.log())));
    await rabbit.stop();
    await until('the agent misses it', () => /the broker cannot be used/.test(agent.log()));
    for (const args of [
      ['doctor', '-v'],
      ['deadletter', 'list', '--json'],
    ])
      await run({}, ...args);
    await rabbit.start();
    for (const r of routers) await r.end();
  });

  await agent.kill('SIGTERM');
});

test('none of the secrets was told, written down, or given to another process', () => {
  told.set('the agent’s log', agent.log());
  const state = readdirSync(world.stateDir).filter(name => name.startsWith('journal.db'));
  assert.ok(state.length > 0);
  for (const path of [...files(world.stateDir), ...files(world.runDir)]) told.set(path, readFileSync(path, 'latin1'));
  assert.ok(watch.seen.size > 10 && [...watch.seen].some(text => text.includes('iscsiadm')), 'programs were started');
  for (const text of watch.seen) told.set(`process ${told.size}: ${text.slice(0, 60)}`, text);
  assert.ok(
    !ISCSI.some(base => existsSync(join(base, IQN))),
    'the record of a login that failed is gone, with its password',
  );
  assert.ok(told.size > 45, `${told.size} things were told`);

  const found = [...told].flatMap(([where, text]) =>
    Object.entries(SECRETS).flatMap(([name, secret]) =>
      spellings(secret).some(s => text.includes(s)) ? [`${name} in ${where}`] : [],
    ),
  );

  assert.deepEqual(found, []);
});

const spellings = (secret: string): readonly string[] => [
  secret,
  encodeURIComponent(secret),
  JSON.stringify(secret).slice(1, -1),
  Buffer.from(secret).toString('base64').replace(/=+$/, ''),
  Buffer.from(secret).toString('hex'),
];

const instance = () => ({
  uuid: INSTANCE,
  name: 'c1',
  display_name: 'c1',
  hostname: 'c1',
  project_id: 'p',
  image_ref: '',
  metadata: {},
  system_metadata: {},
  user_data: null,
  task_state: null,
  flavor: { name: 'f', flavorid: '1', vcpus: 1, memory_mb: 128, root_gb: 1, ephemeral_gb: 0, swap: 0, extra_specs: {} },
});

async function rpc(message: object): Promise<void> {
  await using raw = await rawChannel(rabbit.url);
  const body = { 'oslo.version': '2.0', 'oslo.message': JSON.stringify({ version: '1.0', ...message }) };
  raw.channel.publish('shiftvol', 'shiftvol.node1', Buffer.from(JSON.stringify(body)), JSON_PROPERTIES);
  await raw.channel.waitForConfirms();
}

/** `shiftvol route` for a while. */
function router(url: string) {
  const child = spawn(process.execPath, [CLI, 'route', '-v'], {
    env: { ...world.env, SHIFTVOL_TRANSPORT_URL: url },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const name = `router ${told.size}`;
  told.set(name, '');
  child.stderr.setEncoding('utf8').on('data', (text: string) => void told.set(name, (told.get(name) ?? '') + text));
  const ended = new Promise<void>(resolve => child.once('close', () => resolve()));
  return {
    log: () => told.get(name) ?? '',
    end: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** Without images: they are large, and have no words of ours. */
function* files(dir: string): Generator<string> {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) yield* files(path);
    else if (entry.isFile() && statSync(path).size < 64 * 2 ** 20 && !path.endsWith('/image')) yield path;
  }
}
