/** What needs Prometheus' own tools, and no Prometheus. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const MONITORING = fileURLToPath(new URL('../../../deploy/monitoring', import.meta.url));

for (const [what, args] of [
  ['finds nothing wrong with the rules', ['check', 'rules', 'alerts.yaml']],
  ['each alert fires for what it is for, and is quiet otherwise', ['test', 'rules', 'alerts.test.yaml']],
] as const)
  test(`promtool: ${what}`, () => {
    const { status, stdout, stderr } = spawnSync('promtool', args, { cwd: MONITORING, encoding: 'utf8' });

    assert.equal(status, 0, stdout + stderr);
  });
