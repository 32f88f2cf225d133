import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { load } from 'js-yaml';

const DEPLOY = new URL('../../../deploy/', import.meta.url);
const read = (path: string) => readFileSync(new URL(path, DEPLOY), 'utf8');

/** Helm reads nothing from outside of a chart, and npm packs no links. `SHIFTVOL_UPDATE_GOLDEN=1` writes them. */
for (const name of ['alerts.yaml', 'dashboard.json'])
  test(`the chart’s ${name} is that of deploy/monitoring`, () => {
    const [from, to] = [`monitoring/${name}`, `helm/shiftvol/monitoring/${name}`];
    if (process.env['SHIFTVOL_UPDATE_GOLDEN'] === '1') writeFileSync(new URL(to, DEPLOY), read(from));
    assert.equal(read(to), read(from));
  });

type Rule = { readonly alert: string; readonly annotations: Readonly<Record<string, string>> };

test('each alert says what is wrong, what to do, and where that is explained', () => {
  // Checked by promtool elsewhere.
  const { groups } = load(read('monitoring/alerts.yaml')) as { groups: { rules: Rule[] }[] };
  const rules = groups.flatMap(group => group.rules);
  const explained = new Set(read('README.md').match(/(?<=^### )Shiftvol\w+$/gm));

  for (const { alert, annotations } of rules) {
    assert.ok(explained.has(alert), `deploy/README.md has no "### ${alert}"`);
    assert.equal(annotations['runbook'], `deploy/README.md#${alert.toLowerCase()}`);
    assert.ok((annotations['summary'] ?? '').length > 20 && (annotations['description'] ?? '').length > 60, alert);
  }
  assert.deepEqual([...explained].toSorted(), rules.map(rule => rule.alert).toSorted());
});
