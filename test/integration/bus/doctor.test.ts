import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import got from 'got';
import { type BusCheck, checkBus } from '../../../src/bus/doctor.ts';
import { type Certificates, makeCertificates } from '../../rig/certificates.ts';
import { type Rabbit, startRabbit } from '../../rig/rabbit.ts';
import { attachNote, bodyOf, configFor, JSON_PROPERTIES, rawChannel, startBus, until } from './helpers.ts';

const never = new AbortController().signal;
const texts = (checks: readonly BusCheck[], name: string) =>
  checks.filter(c => c.check === name).map(c => `${c.ok} ${c.detail}`);

let rabbit: Rabbit;
let files: Certificates;
before(async () => {
  files = await makeCertificates();
  rabbit = await startRabbit({ management: true, tls: files });
});
after(async () => {
  await rabbit?.[Symbol.asyncDispose]();
  await files?.[Symbol.asyncDispose]();
});
const config = (bus: object = {}) => configFor(rabbit.url, { management_url: rabbit.managementUrl, ...bus });

test('no broker configured is nothing wrong', async () => {
  const checks = await checkBus(configFor(rabbit.url, { listen: [] }), never);

  assert.deepEqual(
    checks.map(c => c.ok),
    [true],
  );
});

test('a fresh broker: no exchange to hear, no queue, and what to do about it', async () => {
  const checks = await checkBus(config(), never);

  assert.match(texts(checks, 'bus.connect')[0] ?? '', /^true .*RabbitMQ 3/);
  assert.match(texts(checks, 'bus.exchange')[0] ?? '', /^false .*none of nova, openstack, cinder is there/);
  assert.match(texts(checks, 'bus.queue')[0] ?? '', /^false .*is not there/);
  assert.ok(checks.every(c => c.ok || c.remedy));
  assert.ok(!JSON.stringify(checks).includes('guest:guest'));
});

test('an agent at work: its consumer, its dead letters, and a policy that lets messages expire', async () => {
  await using raw = await rawChannel(rabbit.url);
  await raw.channel.assertExchange('nova', 'topic', { durable: false });
  const policy = `${rabbit.managementUrl}/api/policies/%2F/ttl`;
  await got.put(policy, {
    json: { pattern: '^(?!(amq\\.|reply_)).*', definition: { 'message-ttl': 70_000 }, 'apply-to': 'queues' },
  });
  await using service = startBus(config(), async () => {});
  await until('listening', () => service.status.subscribed && service.status.exchanges['nova'] === 'bound');
  raw.channel.publish('nova', 'notifications.info', Buffer.from('junk'), JSON_PROPERTIES);
  await until('buried', () => service.status.counters.dead === 1);
  let checks: readonly BusCheck[] = [];
  await until('the statistics', async () => {
    checks = await checkBus(config(), never);
    return texts(checks, 'bus.policy')[0]?.startsWith('false');
  });

  assert.match(texts(checks, 'bus.exchange')[0] ?? '', /^true .*nova there; openstack, cinder not/);
  assert.match(texts(checks, 'bus.queue')[0] ?? '', /^true .*has 1 consumers and 0 messages/);
  assert.match(texts(checks, 'bus.dead')[0] ?? '', /^false .*1 dead letters/);
  assert.match(texts(checks, 'bus.policy')[0] ?? '', /policy ttl lets messages of shiftvol.node1 expire after 70 s/);
  await got.delete(policy);
});

test('messages that wait without an agent are told', async () => {
  await using raw = await rawChannel(rabbit.url);
  raw.channel.publish('nova', 'versioned_notifications.info', bodyOf(attachNote(1)), JSON_PROPERTIES);
  await raw.channel.waitForConfirms();

  const checks = await checkBus(config({ management_url: null }), never);

  assert.match(texts(checks, 'bus.queue')[0] ?? '', /^false .*has 0 consumers and 1 messages/);
  assert.deepEqual(texts(checks, 'bus.policy'), []);
});

test('a wrong password, vhost or host has its own remedy', async () => {
  const table: readonly [string, RegExp][] = [
    [`rabbit://guest:wrong@127.0.0.1:${rabbit.port}/`, /^correct user and password/],
    [`rabbit://guest:guest@127.0.0.1:${rabbit.port}/none`, /^create the vhost "none"/],
    ['rabbit://guest:guest@127.0.0.1:1/', /^see that RabbitMQ listens on 127.0.0.1:1/],
  ];
  for (const [url, remedy] of table) {
    const [check] = await checkBus(configFor(url), never);

    assert.ok(check && !check.ok);
    assert.match(check.remedy ?? '', remedy);
    assert.ok(!JSON.stringify(check).includes('wrong'));
  }
});

test('TLS: the broker’s certificate and name are verified against the CA that is configured', async () => {
  const url = (host: string) => `rabbit://guest:guest@${host}:${rabbit.tlsPort}/?ssl=true`;
  const connects = async (host: string, bus: object) => {
    const [check] = await checkBus(configFor(url(host), bus), never);
    return check?.ok ? 'yes' : check?.remedy;
  };

  assert.equal(await connects('localhost', { tls: { ca: files.ca } }), 'yes');
  assert.match((await connects('localhost', {})) ?? '', /^set bus.tls.ca/);
  assert.match((await connects('127.0.0.1', { tls: { ca: files.ca } })) ?? '', /^set bus.tls.ca/);
  await using service = startBus(configFor(`${url('localhost')}&ssl_ca_file=${files.ca}`), async () => {});
  await until('subscribed', () => service.status.subscribed);
});
