/** What becomes of an instance’s part of a host when Nova moves, shelves or rebuilds it, and no driver of ours is there. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { schema } from '../../../src/config/schema.ts';
import { type Translation, translator } from '../../../src/events/translate.ts';
import { whose } from '../../../src/events/whose.ts';

const samples = new URL('../../fixtures/notifications/nova/', import.meta.url);
const UUID = '178b0921-8f85-4257-88b6-2e743b5a975c';
type Sample = {
  event_type: string;
  publisher_id: string;
  payload: Record<string, unknown>;
  _context_request_id: string;
};

const bindings = (given: object = {}) => schema({ bindings: given }, []).bindings;
const translate = (host: string, message: unknown, given: object = {}) => translator(bindings(given), host)(message);
/** A real one, as told by `from` of an instance that is on `at`. */
function sample(file: string, from: string, at: string | null, event?: string): Sample {
  const read: Sample = JSON.parse(readFileSync(new URL(`instance-${file}.json`, samples), 'utf8'));
  const payload = Object.entries(read.payload).map(([key, value]) => [
    key,
    key === 'nova_object.data' && typeof value === 'object' ? { ...value, host: at } : value,
  ]);
  return {
    ...read,
    event_type: event ?? read.event_type,
    publisher_id: from,
    payload: Object.fromEntries(payload),
    _context_request_id: 'req-1',
  };
}
/** The older form of the same. */
function legacy(event_type: string, from: string, at: string | null, more: object = {}) {
  return {
    event_type,
    publisher_id: `compute.${from}`,
    payload: { instance_id: UUID, host: at, ...more },
    _context_request_id: 'req-1',
  };
}
const commandOf = (translation: Translation) => (translation.kind === 'command' ? translation.command : translation);
const LEAVE = { action: 'detach', instance: { ref: UUID }, requestId: `detach/${UUID}/req-1`, all: true, lazy: false };
const DESTROY = { action: 'destroy', instance: { ref: UUID }, requestId: `destroy/${UUID}/req-1`, lazy: false };

const left: readonly (readonly [what: string, message: object])[] = [
  ['a live migration that is over', sample('live_migration_post-end', 'nova-compute:old', 'old')],
  ['the same in the older form', legacy('compute.instance.live_migration._post.end', 'old', 'old')],
  ['a resize or cold migration that was confirmed', sample('resize_confirm-end', 'nova-compute:old', 'new')],
  ['the same in the older form', legacy('compute.instance.resize.confirm.end', 'old', 'new')],
  ['a shelved instance that is offloaded', sample('shelve_offload-end', 'nova-compute:old', null)],
  ['the same in the older form', legacy('compute.instance.shelve_offload.end', 'old', null)],
  ['an evacuation, told by the host that it went to', sample('rebuild-end', 'nova-compute:new', 'old')],
  ['the same in the older form', legacy('compute.instance.rebuild.end', 'new', 'old')],
];
for (const [what, message] of left)
  test(`${what}: the host that it has left lets go of its volumes, and keeps the root`, () => {
    assert.deepEqual(commandOf(translate('old', message)), LEAVE);
    assert.deepEqual(commandOf(translate('new', message)), { kind: 'ignored', reason: 'other-host' });
    assert.deepEqual(commandOf(translate('old', message, { roots_left_behind: 'destroy' })), DESTROY);
    const of = whose(bindings().events)(message);
    assert.ok(of.kind === 'host' && of.host === 'old', 'a router gives it to that host alone');
  });

test('what was attached after it was told stays: the instance is back', () => {
  const told = sample('live_migration_post-end', 'nova-compute:old', 'old');
  const at = (timestamp: unknown) => commandOf(translate('old', { ...told, timestamp }));

  assert.deepEqual(at('2026-01-02 03:04:05.678901'), { ...LEAVE, until: '2026-01-02T03:04:05.678Z' });
  for (const wrong of [undefined, null, 7, '', 'yesterday', '2026-99-99 00:00:00']) assert.deepEqual(at(wrong), LEAVE);
});

test('a live migration that is taken back: the host where it was to go lets go, the other one does nothing', () => {
  const event = 'instance.live_migration_rollback_dest.end';
  const message = sample('live_migration_rollback-end', 'nova-compute:new', 'old', event);

  assert.deepEqual(commandOf(translate('new', message)), LEAVE);
  assert.deepEqual(commandOf(translate('old', sample('live_migration_rollback-end', 'nova-compute:old', 'old'))), {
    kind: 'ignored',
    reason: 'other-event',
  });
});

test('a resize within one host, and a rebuild, take nothing away from an instance that is still there', () => {
  for (const message of [
    sample('resize_confirm-end', 'nova-compute:old', 'old'),
    legacy('compute.instance.resize.confirm.end', 'old', 'old'),
    sample('rebuild-end', 'nova-compute:old', 'old'),
  ])
    assert.deepEqual(commandOf(translate('old', message)), { kind: 'ignored', reason: 'still-here' });
});

test('where the payload does not say where an instance is now, nothing is guessed', () => {
  for (const file of ['resize_confirm-end', 'rebuild-end'])
    assert.deepEqual(commandOf(translate('old', sample(file, 'nova-compute:old', null))), {
      kind: 'ignored',
      reason: 'no-host',
    });
});

test('a rebuild makes the root anew from its new image, once, in both forms', () => {
  const image = 'a2459075-d96c-40d5-893e-577ff92e721c';
  const message = sample('rebuild-end', 'nova-compute:old', 'old', 'instance.rebuild.start');
  const anew = {
    action: 'spawn',
    instance: { ref: UUID },
    requestId: `spawn/${UUID}/req-1`,
    template: image,
    anew: true,
  };

  assert.deepEqual(commandOf(translate('old', message)), anew);
  const older = legacy('compute.instance.rebuild.start', 'old', 'old', {
    image_ref_url: `http://glance/images/${image}`,
  });
  assert.deepEqual(commandOf(translate('old', older)), anew);
});

test('an evacuation makes a root on the new host, and takes none away there', () => {
  const message = sample('rebuild-end', 'nova-compute:new', 'dead', 'instance.rebuild.start');
  const command = commandOf(translate('new', message));

  assert.ok('action' in command && command.action === 'spawn' && command.anew === undefined);
  assert.deepEqual(commandOf(translate('dead', message)), { kind: 'ignored', reason: 'other-host' });
});

test('what leaves an instance where it is does nothing', () => {
  const quiet = [
    'resize-start',
    'resize-end',
    'resize_finish-end',
    'resize_revert-end',
    'shelve-end',
    'unshelve-start',
    'unshelve-end',
  ];
  const standing = ['power_off-end', 'power_on-end', 'reboot-end', 'live_migration_post_dest-end'];
  const renamed = ['pause', 'unpause', 'suspend', 'resume', 'soft_delete', 'restore', 'rescue', 'unrescue', 'lock'];
  const messages = [
    ...[...quiet, ...standing].map(file => sample(file, 'nova-compute:old', 'old')),
    // Of the same shape as a power_off.
    ...renamed.flatMap(name => [
      sample('power_off-end', 'nova-compute:old', 'old', `instance.${name}.start`),
      sample('power_off-end', 'nova-compute:old', 'old', `instance.${name}.end`),
      legacy(`compute.instance.${name}.end`, 'old', 'old'),
    ]),
    sample('evacuate', 'nova-api:api', 'old'),
  ];
  for (const message of messages)
    assert.deepEqual(commandOf(translate('old', message)), { kind: 'ignored', reason: 'other-event' });
});

test('nova-api, which knows no host’s state, cannot make a host let go', () => {
  for (const file of ['live_migration_post-end', 'resize_confirm-end', 'shelve_offload-end', 'rebuild-end'])
    assert.deepEqual(commandOf(translate('old', sample(file, 'nova-api:old', 'old'))), {
      kind: 'ignored',
      reason: 'no-host',
    });
});
