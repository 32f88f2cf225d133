/** Volumes go from one host to another, where the instance has other ids: nothing is chowned, and nothing half is left. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { AttachmentView } from '../../src/http/view.ts';
import { digestOnDisk } from './digest.ts';
import { makeTwoHosts, type TwoHosts } from './migrate-world.ts';
import type { World } from './world.ts';

let hosts: TwoHosts;
let dir: string;

before(async () => {
  hosts = await makeTwoHosts();
  dir = mkdtempSync(join(tmpdir(), 'shiftvol-migrate-'));
  for (const fsType of ['ext4', 'xfs', 'btrfs'] as const) await hosts.a.addTemplate(fsType, { fsType, files: 300 });
  await hosts.a.lxd.launch('c1');
  // Other ids: LXD gives both of its first containers the same, unless one is told otherwise.
  await hosts.b.lxd.launch('c1', { 'security.idmap.base': '9568256', 'security.idmap.size': '65536' });
});
after(async () => {
  await hosts?.[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

async function cli<T>(world: World, ...args: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await world.cli(...args, '--json');
  assert.equal(code, 0, `${args.join(' ')}: ${stderr}`);
  return stdout === '' ? (undefined as T) : JSON.parse(stdout);
}

async function imageOf(world: World, target: string): Promise<AttachmentView> {
  const [view] = await cli<readonly AttachmentView[]>(world, 'show', `c1:${target}`);
  if (view === undefined) throw new Error(`nothing at ${target}`);
  return view;
}

const incoming = (world: World) => {
  const path = join(world.poolDir, 'incoming');
  return existsSync(path) ? readdirSync(path) : [];
};
const first = (view: AttachmentView) => view.extents.find(e => e.kind === 'uid')?.hostId;

for (const fsType of ['ext4', 'xfs', 'btrfs'] as const)
  test(`${fsType}: what a container wrote is there on another host, with other ids, and owned by the same users`, async () => {
    const { a, b } = hosts;
    const [target, file] = [`/mnt/${fsType}`, join(dir, `${fsType}.stream`)];
    await cli(a, 'attach', 'c1', `${fsType}:${target}`, '--snapshot');
    await a.lxd.sh('c1', `echo mine > ${target}/mine; chown 1000:1000 ${target}/mine; rm -r ${target}/d0000/f1; sync`);

    const [sent] = await cli<readonly [{ changedBytes: number; sentBytes: number; frozenMs: number }]>(
      a,
      'export',
      `c1:${target}`,
      file,
    );
    await cli(b, 'import', file);

    const [there, here] = [await imageOf(b, target), await imageOf(a, target)];
    assert.notEqual(first(there), first(here));
    assert.equal(
      await b.lxd.sh(
        'c1',
        `stat -c %u:%g ${target}/mine; cat ${target}/mine; stat -c %u ${target}/d0000/f4 ${target}/d0000/f5`,
      ),
      '1000:1000\nmine\n1000\n0',
    );
    await assert.rejects(b.lxd.sh('c1', `stat ${target}/d0000/f1`));
    await cli(a, 'detach', `c1:${target}`);
    await cli(b, 'detach', `c1:${target}`);
    const [onA, onB] = [await digestOnDisk(here.image, fsType), await digestOnDisk(there.image, fsType)];
    assert.deepEqual(onB.lines, onA.lines);
    assert.ok(sent.changedBytes < statSync(here.image).size / 4, 'what is as in the template is not sent as a change');
    assert.deepEqual(incoming(b), []);
    await cli(a, 'destroy', 'c1');
    assert.deepEqual(await cli(a, 'snapshot', 'list'), []);
    await cli(b, 'destroy', 'c1');
  });
