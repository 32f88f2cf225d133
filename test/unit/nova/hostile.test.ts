/** What no Nova sends: whatever it is, it is refused by its shape, and nothing is done. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RemoteError, type RpcArgs } from '../../../src/bus/rpc/endpoint.ts';
import { SUPPORT } from '../../../src/nova/support.ts';
import { FakeNova } from './fakes.ts';
import { connectionInfo, devices, GIB, IMAGE, instance, raises, spawnArgs, VOLUME } from './samples.ts';

const deep = (depth: number): unknown => JSON.parse(`${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`);
const own = (text: string): unknown => JSON.parse(text);
const STRANGE: readonly (readonly [string, unknown])[] = [
  ['null', null],
  ['a number', 7],
  ['a text', 'x'],
  ['a list', []],
  ['an empty object', {}],
  ['a deep object', deep(5000)],
  ['a prototype', own('{"__proto__": {"uuid": "0c0ffee0-0000-4000-8000-00000000000c", "polluted": true}}')],
  ['a constructor', own('{"constructor": {"prototype": {"polluted": true}}, "toString": 1}')],
  ['a long text', 'x'.repeat(2 ** 21)],
];
const GIVEN = [
  'instance',
  'connection_info',
  'block_device_info',
  'network_info',
  'image_meta',
  'migration',
  'flavor',
  'disk_info',
  'image_id',
  'dest',
  'requested_size',
  'reboot_type',
];

describe('a call of each method is answered', () => {
  const supported = Object.entries(SUPPORT)
    .filter(([, { support }]) => support !== 'not')
    .map(([method]) => method);
  for (const method of supported)
    test(`${method}: with an exception that Python knows, or with a result`, async () => {
      const whole = {
        instance: instance(),
        network_info: [],
        block_device_info: devices(),
        connection_info: connectionInfo(),
      };
      for (const [what, strange] of STRANGE)
        for (const name of GIVEN) {
          const fake = new FakeNova();
          fake.templates.set(IMAGE, GIB);
          const outcome = await fake.call(method, { ...whole, [name]: strange } as RpcArgs).then(
            () => undefined,
            (error: unknown) => error,
          );
          if (outcome !== undefined) assert.ok(outcome instanceof RemoteError, `${name} is ${what}: ${outcome}`);
          if (name === 'instance') assert.deepEqual(fake.done, [], `${name} is ${what}`);
        }
      assert.equal(Reflect.get({}, 'polluted'), undefined);
    });
});

describe('a user cannot', () => {
  const refused = async (args: RpcArgs, method = 'spawn') => {
    const fake = new FakeNova();
    fake.templates.set(IMAGE, GIB);
    const error = await raises(fake.call(method, args));
    assert.deepEqual(fake.leftovers, []);
    return error;
  };
  for (const path of [
    '/',
    '/proc/sys',
    '/proc/../etc',
    '/sys',
    '/dev/shm',
    '//mnt',
    'mnt',
    '/mnt/../../etc',
    '/mnt/\u0000',
    '/mnt\n/x',
  ])
    test(`have a volume mounted at ${JSON.stringify(path)}`, async () => {
      const args = spawnArgs({
        instance: instance({ metadata: { 'shiftvol:path': path } }),
        block_device_info: devices({ id: VOLUME }),
      });
      assert.equal((await refused(args)).className, 'InvalidInput');
    });

  test('have more disk or other keys by names that every object has', async () => {
    const metadata = own('{"__proto__": "x", "constructor": "/mnt/x", "shiftvol:path:__proto__": "/etc"}');
    const fake = new FakeNova();
    fake.templates.set(IMAGE, GIB);
    const args = spawnArgs({ instance: instance({ metadata }), block_device_info: devices({ id: VOLUME }) });
    await fake.call('spawn', args);
    assert.deepEqual(fake.targets().toSorted(), ['/', `/mnt/${VOLUME}`]);
  });
});
