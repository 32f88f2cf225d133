import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { translator } from '../../../src/events/translate.ts';
import { asSent, bindings, read, short } from './samples.ts';

test('what is wrong is named by field, with no value of the message', () => {
  const translate = translator(bindings({ hosts: ['compute', 'node1'] }), '');
  const attach = read('nova/instance-volume_attach-end.json');
  const data = attach.payload['nova_object.data'];
  const withData = (changed: object) => ({
    ...attach,
    payload: { ...attach.payload, 'nova_object.data': { ...data, ...changed } },
  });
  const cinder = asSent(read('cinder/volume-attach-end.json'));
  const wrong: readonly [unknown, string][] = [
    [null, 'message: Invalid input: expected object, received null'],
    [[], 'message: Invalid input: expected object, received array'],
    ['x', 'message: Invalid input: expected object, received string'],
    [{}, 'event_type: Invalid input: expected string, received undefined'],
    [{ event_type: 7, publisher_id: [] }, 'event_type: Invalid input: expected string, received number'],
    [{ ...attach, payload: undefined }, 'payload: Invalid input: expected object, received undefined'],
    [{ ...attach, payload: 'x' }, 'payload: Invalid input: expected object, received string'],
    [
      { ...attach, payload: { ...attach.payload, 'nova_object.version': '2.0' } },
      'payload.nova_object.version: expected version 1.x',
    ],
    [withData({ uuid: 'secret/../../etc' }), 'payload.nova_object.data.uuid: Invalid UUID'],
    [withData({ uuid: null }), 'payload.nova_object.data.uuid: Invalid input: expected string, received null'],
    [withData({ volume_id: '../secret' }), 'payload.nova_object.data.volume_id: Invalid UUID'],
    [
      withData({ volume_id: ['secret'] }),
      'payload.nova_object.data.volume_id: Invalid input: expected string, received array',
    ],
    [
      { ...cinder, payload: { volume_id: 'secret', volume_attachment: [{ attached_host: 'node1' }] } },
      'payload.volume_id: Invalid UUID',
    ],
    [{ ...cinder, payload: { volume_attachment: 'secret' } }, 'payload.volume_id: Invalid input'],
    [
      JSON.parse('{"__proto__": {"event_type": "instance.delete.end", "publisher_id": "nova-compute:compute"}}'),
      'event_type: Invalid input',
    ],
  ];
  for (const [message, reason] of wrong) {
    const translation = translate(message);

    assert.ok(translation.kind === 'invalid' && translation.reason.startsWith(reason), JSON.stringify(translation));
    assert.ok(!translation.reason.includes('secret'));
  }
});

test('a wrong message of another host is not ours to tell', () => {
  const sample = read('nova/instance-volume_attach-end.json');

  assert.equal(short(translator(bindings(), 'node9')({ ...sample, payload: 7 })), 'other-host');
});

test('a request id that cannot be an id is replaced by the message’s', () => {
  const translate = translator(bindings(), 'compute');
  const sample = read('nova/instance-create-start.json');
  delete sample.payload['nova_object.data'].request_id;

  const translation = translate({ ...sample, _context_request_id: 'a b\n', message_id: 'm-1' });

  assert.ok(translation.kind === 'command' && translation.command.requestId?.endsWith('/m-1'));
});

test('no message whatever throws, and none puts a path of its own into a command', () => {
  const translate = translator(bindings({ hosts: ['h'] }), '');
  const shape = fc.record({
    event_type: fc.constantFrom(...Object.keys(Object.fromEntries(bindings().events)), 'x'),
    publisher_id: fc.constantFrom('nova-compute:h', 'compute.h', 'nova-api:h', 'x', ''),
    payload: fc.oneof(
      fc.anything(),
      fc.record({
        'nova_object.namespace': fc.constant('nova'),
        'nova_object.version': fc.constant('1.6'),
        'nova_object.data': fc.dictionary(
          fc.constantFrom('uuid', 'volume_id', 'image_uuid', 'host'),
          fc.oneof(fc.uuid(), fc.string()),
        ),
      }),
      fc.record({ volume_id: fc.oneof(fc.uuid(), fc.string()), volume_attachment: fc.array(fc.anything()) }),
    ),
  });
  fc.assert(
    fc.property(fc.oneof(fc.anything(), shape), message => {
      const translation = translate(message);

      if (translation.kind === 'command') assert.match(JSON.stringify(translation.command), /^[^.]*$/);
    }),
    { numRuns: 2000 },
  );
});
