import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isError } from '../../../src/errors.ts';
import { type ApiRequest, answer, parseApiRequest } from '../../../src/http/api.ts';
import { makeRig } from '../engine/fakes.ts';

const body = {
  action: 'attach',
  instance: { ref: 'c1' },
  target: '/mnt',
  source: { kind: 'template', template: 'web' },
  readOnly: false,
};

const SPAWN = { action: 'spawn', instance: { ref: 'c1' } };

test('a spawn takes a template’s name, or any source', async () => {
  using rig = makeRig();
  const signal = new AbortController().signal;
  const spawn = (more: object) =>
    answer(rig.engine, { command: 'execute', body: { ...SPAWN, ...more } } as ApiRequest, signal);

  await spawn({ template: 'web' });
  await spawn({ instance: { ref: 'c2' }, source: { kind: 'file', path: '/v.img', idBase: 7 }, secrets: { key: 'k' } });

  assert.deepEqual(
    rig.engine.list().map(a => [a.plan.role, a.plan.source.kind, a.plan.idBase]),
    [
      ['root', 'template', 0],
      ['root', 'file', 7],
    ],
  );
});

test('a request of the right shape is taken', () => {
  assert.deepEqual(parseApiRequest({ command: 'execute', body }), { command: 'execute', body, dryRun: false });
});

for (const [what, value, field] of [
  ['not an object', 7, ''],
  ['an unknown command', { command: 'rm -rf' }, 'command'],
  ['no body', { command: 'execute' }, 'body'],
  ['an unknown action', { command: 'execute', body: { ...body, action: 'explode' } }, 'body.action'],
  ['a key too many', { command: 'execute', body: { ...body, sudo: true } }, 'body'],
  ['a wrong type', { command: 'execute', body: { ...body, readOnly: 'yes' } }, 'body.readOnly'],
  [
    'a relative path',
    { command: 'execute', body: { ...body, source: { kind: 'file', path: 'vol.raw' } } },
    'body.source.path',
  ],
  ['no instance', { command: 'execute', body: { ...body, instance: { ref: '' } } }, 'body.instance.ref'],
  ['a root file system of nothing', { command: 'execute', body: SPAWN }, 'body.template'],
  [
    'a root file system of two things',
    { command: 'execute', body: { ...SPAWN, template: 'web', source: body.source } },
    'body.template',
  ],
  [
    'a size that is nobody’s',
    { command: 'execute', body: { ...SPAWN, source: body.source, sizeBytes: 1 } },
    'body.sizeBytes',
  ],
  ['a prototype', JSON.parse('{"command":"list","__proto__":{"x":1}}'), ''],
  ['a negative count', { command: 'idmap.alloc', instance: 'c1', count: -1 }, 'count'],
] as const)
  test(`refuses ${what}, naming the field`, () => {
    assert.throws(
      () => parseApiRequest(value),
      e => isError(e, 'SV_MESSAGE') && e.field === field && e.exit === 2,
    );
  });

test('a request id that was given to another request is refused, and the same request is done once', async () => {
  using rig = makeRig();
  rig.host.addInstance('c1', 1_000_000);
  const ask = (more: object) =>
    answer(
      rig.engine,
      { command: 'execute', body: { ...body, requestId: 'r', ...more } } as ApiRequest,
      new AbortController().signal,
    );
  assert.equal(Object(await ask({})).changed, true);

  assert.equal(Object(await ask({})).changed, false);
  await assert.rejects(ask({ target: '/other' }), e => isError(e, 'SV_USAGE') && e.field === 'requestId');
  const { source: _, readOnly: __, ...rest } = body;
  const detach = { command: 'execute', body: { ...rest, action: 'detach', lazy: false, requestId: 'r' } } as ApiRequest;
  await assert.rejects(
    answer(rig.engine, detach, new AbortController().signal),
    e => isError(e, 'SV_USAGE') && /attach/.test(e.message),
  );
  assert.deepEqual(
    rig.engine.list().map(a => `${a.plan.target} ${a.status.state}`),
    ['/mnt attached'],
  );
});
