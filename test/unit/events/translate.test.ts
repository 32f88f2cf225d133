import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type Translation, translator } from '../../../src/events/translate.ts';
import { asSent, bindings, read, samples, short } from './samples.ts';

const expected: Readonly<Record<string, string>> = {
  'nova/instance-create-start.json': 'spawn 178b0921',
  'nova/instance-create-end.json': 'other-event',
  'nova/instance-create-error.json': 'destroy 178b0921',
  'nova/instance-delete-start.json': 'other-event',
  'nova/instance-delete-end.json': 'destroy 178b0921',
  'nova/instance-evacuate.json': 'other-event',
  'nova/instance-live_migration_pre-end.json': 'other-event',
  'nova/instance-live_migration_post-end.json': 'detach 178b0921',
  'nova/instance-live_migration_post_dest-end.json': 'other-event',
  'nova/instance-live_migration_rollback-end.json': 'other-event',
  'nova/instance-power_off-end.json': 'other-event',
  'nova/instance-power_on-end.json': 'other-event',
  'nova/instance-reboot-end.json': 'other-event',
  'nova/instance-rebuild-end.json': 'still-here',
  'nova/instance-resize-start.json': 'other-event',
  'nova/instance-resize-end.json': 'other-event',
  'nova/instance-resize_confirm-end.json': 'still-here',
  'nova/instance-resize_finish-end.json': 'other-event',
  'nova/instance-resize_revert-end.json': 'other-event',
  'nova/instance-shelve-end.json': 'other-event',
  'nova/instance-shelve_offload-end.json': 'detach 178b0921',
  'nova/instance-unshelve-start.json': 'other-event',
  'nova/instance-unshelve-end.json': 'other-event',
  'nova/instance-shutdown-end.json': 'other-event',
  'nova/instance-update.json': 'other-event',
  'nova/instance-volume_attach-start.json': 'switched-off',
  'nova/instance-volume_attach-end.json': 'attach 178b0921 a07f71dc',
  'nova/instance-volume_attach-error.json': 'other-event',
  'nova/instance-volume_detach-start.json': 'detach 178b0921 a07f71dc',
  'nova/instance-volume_detach-end.json': 'switched-off',
  'nova/instance-volume_swap-end.json': 'other-event',
  'legacy/create-start.json': 'spawn 68183120',
  'legacy/create-end.json': 'other-event',
  'legacy/delete-start.json': 'other-event',
  'legacy/delete-end.json': 'destroy bb5f4c7d',
  'legacy/update.json': 'other-event',
  'legacy/volume-attach.json': 'attach 68183120 83322272',
  'legacy/volume-detach.json': 'detach 68183120 83322272',
  'legacy/live_migration-pre-start.json': 'other-event',
  'legacy/live_migration-_post-end.json': 'detach 9d4b4fab',
  'legacy/live_migration-post-dest-end.json': 'other-event',
  'cinder/volume-attach-start.json': 'other-event',
  'cinder/volume-attach-end.json': 'attach 68183120 83322272',
  'cinder/volume-detach-start.json': 'detach 68183120 83322272',
  'cinder/volume-detach-end.json': 'other-event',
  'cinder/volume-create-end.json': 'other-event',
  'cinder/volume-resize-end.json': 'other-host',
  'cinder/snapshot-create-end.json': 'other-event',
};

test('each real notification becomes its command, or is ignored for its reason', () => {
  const files = ['nova', 'legacy', 'cinder'].flatMap(d => readdirSync(new URL(`${d}/`, samples)).map(f => `${d}/${f}`));
  const translate = translator(bindings({ hosts: ['compute', 'node1', 'node2'] }), 'unused');

  const got = Object.fromEntries(files.map(f => [f, short(translate(asSent(read(f))))]));

  assert.deepEqual(got, Object.fromEntries(files.map(f => [f, expected[f]])));
  assert.deepEqual(files.toSorted(), Object.keys(expected).toSorted());
});

const flow = (name: string, host: string) =>
  readFileSync(new URL(`flows/${name}.jsonl`, samples), 'utf8')
    .trim()
    .split('\n')
    .map(line => translator(bindings(), host)(JSON.parse(line).message));
const requests = (translations: readonly Translation[]) => [
  ...new Set(
    translations.flatMap(t => (t.kind === 'command' ? [`${short(t)} ${t.command.requestId?.slice(-12)}`] : [])),
  ),
];

test('boot, attach, detach: eight messages in three forms are three requests', () => {
  const translations = flow('boot-attach-detach', 'node1');

  assert.equal(translations.filter(t => t.kind === 'command').length, 8);
  assert.deepEqual(
    requests(translations).map(r => r.slice(0, r.lastIndexOf(' '))),
    ['spawn 68183120', 'attach 68183120 83322272', 'detach 68183120 83322272'],
  );
});

test('boot from a volume: Cinder alone tells of the volumes, each is a request of its own', () => {
  const commands = requests(flow('boot-from-volume', 'node2'));

  assert.equal(commands.length, 2);
  assert.ok(commands[0]?.startsWith('attach bb5f4c7d 83322272'));
  assert.ok(commands[1]?.startsWith('attach bb5f4c7d c76581f2'));
});

test('delete with volumes: detach of each, then destroy; the other host does its own only', () => {
  assert.deepEqual(
    requests(flow('delete-with-volumes', 'node2')).map(r => r.slice(0, r.lastIndexOf(' '))),
    ['detach bb5f4c7d 83322272', 'detach bb5f4c7d c76581f2', 'destroy bb5f4c7d'],
  );
  assert.deepEqual(
    requests(flow('delete-with-volumes', 'node1')).map(r => r.slice(0, r.lastIndexOf(' '))),
    ['destroy 68183120'],
  );
});

test('live migration: the attach goes to the new host, the old one lets go when it is over, and a detach that names two is never guessed', () => {
  assert.deepEqual(
    requests(flow('live-migration', 'node1')).map(r => r.slice(0, r.lastIndexOf(' '))),
    ['detach 9d4b4fab'],
  );
  assert.deepEqual(
    requests(flow('live-migration', 'node2')).map(r => r.slice(0, r.lastIndexOf(' '))),
    ['attach 9d4b4fab 0b81fb7b'],
  );
});

test('the commands are complete', () => {
  const translate = translator(
    bindings({
      images: [{ image: '155d900f-4e14-4e4c-a73d-069cbf4541e6', template: 'web', size: '10GiB' }],
      volumes: [
        {
          volume: 'a07f71dc-8151-4e7d-a0cc-cd24a3f11113',
          template: 'data',
          target: '/srv/{instance_uuid}/{volume_id}',
          read_only: true,
        },
      ],
    }),
    'compute',
  );
  const sent = (file: string) => asSent({ ...read(file), context: { request_id: 'req-1' } });
  const instance = { ref: '178b0921-8f85-4257-88b6-2e743b5a975c' };
  const volumeId = 'a07f71dc-8151-4e7d-a0cc-cd24a3f11113';

  assert.deepEqual(translate(sent('nova/instance-create-start.json')), {
    kind: 'command',
    event: 'instance.create.start',
    wildcard: false,
    command: {
      action: 'spawn',
      instance,
      requestId: `spawn/${instance.ref}/req-1`,
      template: 'web',
      sizeBytes: 10 * 2 ** 30,
    },
  });
  assert.deepEqual(translate(sent('nova/instance-volume_attach-end.json')), {
    kind: 'command',
    event: 'instance.volume_attach.end',
    wildcard: false,
    command: {
      action: 'attach',
      instance,
      requestId: `attach/${instance.ref}/${volumeId}/req-1`,
      volumeId,
      target: `/srv/${instance.ref}/${volumeId}`,
      source: { kind: 'template', template: 'data' },
      readOnly: true,
    },
  });
  assert.deepEqual(translate(sent('nova/instance-volume_detach-start.json')), {
    kind: 'command',
    event: 'instance.volume_detach.start',
    wildcard: false,
    command: {
      action: 'detach',
      instance,
      requestId: `detach/${instance.ref}/${volumeId}/req-1`,
      volumeId,
      lazy: false,
    },
  });
});

test('the host is the publisher’s, except for a delete that nova-api tells', () => {
  const translate = translator(bindings(), 'node1');
  const create = read('nova/instance-create-start.json');
  const gone = read('nova/instance-delete-end.json');
  const at = (sample: { payload: object }, publisher_id: string, host: string | null) => {
    const data = Object.entries(sample.payload).map(([k, v]) => [k, k === 'nova_object.data' ? { ...v, host } : v]);
    return short(translate({ ...sample, publisher_id, payload: Object.fromEntries(data) }));
  };

  assert.equal(at(create, 'nova-compute:node1', null), 'spawn 178b0921');
  assert.equal(at(create, 'nova-compute:node1', 'dead'), 'spawn 178b0921');
  assert.equal(at(create, 'nova-compute:node2', 'node1'), 'other-host');
  assert.equal(at(create, 'nova-compute:node1:2', null), 'other-host');
  assert.equal(at(create, 'nova-compute', null), 'no-host');
  assert.equal(at(gone, 'nova-api:api1', 'node1'), 'destroy 178b0921');
  assert.equal(at(gone, 'nova-api:node1', null), 'no-host');
  assert.equal(at(gone, 'nova-compute:node1', null), 'destroy 178b0921');
});

test('what is not bound does nothing', () => {
  const none = translator(bindings({ images: [], volumes: [] }), 'compute');

  assert.equal(short(none(read('nova/instance-create-start.json'))), 'unbound-image');
  assert.equal(short(none(read('nova/instance-volume_attach-end.json'))), 'unbound-volume');
});

test('an event that is switched off does nothing, one that is switched on acts', () => {
  const translate = translator(
    bindings({ events: { 'instance.create.start': false, 'instance.volume_attach.start': true } }),
    'compute',
  );

  assert.equal(short(translate(read('nova/instance-create-start.json'))), 'switched-off');
  assert.equal(short(translate(read('nova/instance-volume_attach-start.json'))), 'attach 178b0921 a07f71dc');
});

test('an attach mode "ro" of Cinder makes the attach read-only', () => {
  const sample = read('cinder/volume-attach-end.json');
  sample.payload.volume_attachment[0].attach_mode = 'ro';

  const translation = translator(bindings(), 'node1')(asSent(sample));

  assert.ok(translation.kind === 'command' && translation.command.action === 'attach' && translation.command.readOnly);
});

test('a volume of ours that Cinder has made larger is extended to its size, told under the request that asked for it', () => {
  const sample = read('cinder/volume-resize-end.json');
  const [attachment] = read('cinder/volume-attach-end.json').payload.volume_attachment;
  const translate = translator(bindings({ hosts: [attachment.attached_host] }), '');
  const resized = (more: object, ...others: object[]) =>
    translate(
      asSent({ ...sample, payload: { ...sample.payload, volume_attachment: [attachment, ...others], ...more } }),
    );

  const translation = resized({}, { ...attachment, attached_host: 'another' });

  const { volume_id: volumeId } = sample.payload;
  assert.deepEqual(translation.kind === 'command' && translation.command, {
    action: 'extend',
    instance: { ref: attachment.instance_uuid },
    requestId: `extend/${attachment.instance_uuid}/${volumeId}/${sample.context.request_id}`,
    volumeId,
    sizeBytes: 2 * 2 ** 30,
  });
  assert.equal(short(resized({}, attachment)), 'ambiguous');
  for (const size of [0, -1, 1.5, '2', 1e15, null]) assert.equal(resized({ size }).kind, 'invalid', `${size}`);
});
