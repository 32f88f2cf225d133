import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attachmentRow, cut } from '../../../src/page/rows.ts';
import { DemoHost } from '../../rig/page-demo.ts';

test('a row says nothing of where an attachment is mounted on the host', () => {
  const [view] = new DemoHost(1).views;
  assert.ok(view);

  const told = JSON.stringify(attachmentRow(view));

  assert.doesNotMatch(told, /secret|hostPath|pool\/image/);
  assert.match(told, /"map":"b:0:1000000:65536"/);
});

test('texts of any length are cut', () => {
  const [view] = new DemoHost(1).views;
  assert.ok(view);
  const long = 'x'.repeat(2 ** 20);

  const row = attachmentRow({
    ...view,
    instance: long,
    target: `/${long}`,
    volumeId: long,
    device: long,
    source: { kind: 'template', template: long },
    error: { code: 'SV_BUSY', message: long, remedy: long, field: long },
  });

  assert.ok(JSON.stringify(row).length < 40_000);
  assert.equal(cut('ä'.repeat(5000)).length, 4096);
});
