import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDistribution, SetupError, wantedPackages } from '../../rig/setup.ts';

const release = (id: string, version: string) => `PRETTY_NAME="X"\nID=${id}\nVERSION_ID="${version}"\n`;
const runtimeOf = (id: string, version: string) => {
  const wanted = wantedPackages(readDistribution(release(id, version)), 'demo').map(w => w.package);
  return wanted.filter(name => ['lxd', 'incus', 'incus-base'].includes(name)).join();
};

for (const [id, version, runtime] of [
  ['debian', '12', 'lxd'],
  ['debian', '13', 'incus-base'],
  ['debian', '', 'incus-base'],
  ['ubuntu', '24.04', 'incus'],
  ['ubuntu', '26.04', 'incus-base'],
] as const)
  test(`${id} ${version || 'testing'} has the runtime as ${runtime}`, () => {
    assert.equal(runtimeOf(id, version), runtime);
  });

for (const [id, version] of [
  ['debian', '11'],
  ['ubuntu', '22.04'],
  ['fedora', '41'],
] as const)
  test(`${id} ${version} is refused with what would be needed`, () => {
    assert.throws(
      () => readDistribution(release(id, version)),
      (error: unknown) => error instanceof SetupError && error.message.includes('RabbitMQ, LXD or Incus'),
    );
  });

test('the demo needs less than the tests', () => {
  const debian = readDistribution(release('debian', '12'));

  const [demo, all] = [wantedPackages(debian, 'demo'), wantedPackages(debian, 'test')];

  assert.ok(demo.every(w => all.includes(w)));
  assert.ok(demo.length < all.length);
});
