import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Config } from '../../../src/config/schema.ts';
import type { LxdClient } from '../../../src/container/lxd/client.ts';
import { LxdError } from '../../../src/container/lxd/lxd-error.ts';
import { type CloudLook, cloudChecks, rootPoolCheck, rpcChecks } from '../../../src/doctor/nova.ts';
import { ShiftvolError } from '../../../src/errors.ts';

const never = new AbortController().signal;
const told = (checks: readonly { check: string; ok: unknown }[]) => checks.map(c => `${c.check} ${c.ok}`);

/** As far as these checks read it. */
function config(enabled: boolean, url: string | null = null): Config {
  return { nova: { enabled }, rpc: { enabled: true, url }, bus: { url: null, listen: [] } } as unknown as Config;
}

function cloud(isThere: boolean, fails?: ShiftvolError): CloudLook {
  return {
    isConfigured: async () => isThere,
    ask: async service => {
      if (fails && service === 'volumev3') throw fails;
    },
  };
}

test('a cloud that nobody needs is no fault; one that Nova’s driver needs has to be there, and to answer', async () => {
  const refused = new ShiftvolError('SV_OPENSTACK_AUTH', 'Cannot log in: the password is wrong', { remedy: 'mend it' });

  assert.deepEqual(told(await cloudChecks(config(false), cloud(false), never)), ['openstack.configured true']);
  assert.deepEqual(told(await cloudChecks(config(true), cloud(false), never)), ['openstack.configured false']);
  assert.deepEqual(told(await cloudChecks(config(true), cloud(true), never)), [
    'openstack.configured true',
    'openstack.image true',
    'openstack.volumev3 true',
  ]);
  for (const [enabled, ok] of [
    [true, false],
    [false, 'warn'],
  ] as const) {
    const found = (await cloudChecks(config(enabled), cloud(true, refused), never)).at(-1);
    assert.deepEqual([found?.ok, found?.remedy], [ok, 'mend it']);
  }
});

test('a driver that nobody can call is a fault; an agent that is not subscribed is worth a look', () => {
  const agent = (subscribed: boolean) => ({ pid: 1, bus: { healthy: true, rpc: { subscribed } } });

  assert.deepEqual(told(rpcChecks(config(true), undefined)), ['agent.rpc false']);
  assert.deepEqual(told(rpcChecks(config(false), agent(true))), []);
  assert.deepEqual(told(rpcChecks(config(true, 'rabbit://x'), undefined)), []);
  assert.deepEqual(told(rpcChecks(config(true, 'rabbit://x'), agent(true))), ['agent.rpc true']);
  assert.deepEqual(told(rpcChecks(config(true, 'rabbit://x'), agent(false))), ['agent.rpc warn']);
});

test('LXD’s pool for our instances may be missing, and may not be another one', async () => {
  const answering = (answer: () => unknown) => ({ get: async () => ({ metadata: answer() }) }) as unknown as LxdClient;
  const pool = (driver: string) => answering(() => ({ driver, config: { source: '/pools/shiftvol' } }));
  const missing = answering(() => {
    throw new LxdError(404, 'Cannot find it');
  });

  assert.deepEqual(told(await rootPoolCheck(config(false), pool('zfs'), never)), []);
  assert.deepEqual(told(await rootPoolCheck(config(true), missing, never)), ['runtime.root-pool true']);
  assert.deepEqual(told(await rootPoolCheck(config(true), pool('dir'), never)), ['runtime.root-pool true']);
  assert.deepEqual(told(await rootPoolCheck(config(true), pool('zfs'), never)), ['runtime.root-pool false']);
});
