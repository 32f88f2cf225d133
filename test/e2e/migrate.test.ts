/** Volumes go from one host to another, where the instance has other ids: nothing is chowned, and nothing half is left. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { AttachmentView } from '../../src/http/view.ts';
import { makeRootfs } from '../rig/busybox.ts';
import { makeTreeImage } from '../rig/tree.ts';
import { digestOnDisk } from './digest.ts';
import { makeTwoHosts, type TwoHosts } from './migrate-world.ts';
import { CLI, type World } from './world.ts';

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

/** Both ends as processes of their own, the one's output being the other's input; `onPiece` sees what goes through. */
async function pipe(
  from: readonly string[],
  to: readonly string[],
  onPiece: (bytes: number, ends: { readonly source: ChildProcess; readonly target: ChildProcess }) => void = () => {},
) {
  const start = (world: World, args: readonly string[]) =>
    spawn(process.execPath, [CLI, ...args, '--json'], { env: world.env, stdio: ['pipe', 'pipe', 'pipe'] });
  const [source, target] = [start(hosts.a, from), start(hosts.b, to)];
  let passed = 0;
  let told = '';
  for (const stream of [source.stderr, target.stderr])
    stream.setEncoding('utf8').on('data', text => {
      told += text;
    });
  target.stdout.resume();
  target.stdin.on('error', () => {}); // it may have been killed
  source.stdout.on('data', chunk => {
    passed += chunk.length;
    if (!target.stdin.write(chunk)) {
      source.stdout.pause();
      target.stdin.once('drain', () => source.stdout.resume()).once('close', () => source.stdout.destroy());
    }
    onPiece(passed, { source, target });
  });
  source.stdout.on('end', () => target.stdin.end());
  const ended = (child: ChildProcess) => new Promise<number | null>(resolve => child.once('close', resolve));
  const [sourceCode, targetCode] = await Promise.all([ended(source), ended(target)]);
  return { sourceCode, targetCode, passed, told };
}

test('while it is written to it is sent, and when it stands only what was written since; the service goes on', async () => {
  const { a, b } = hosts;
  const target = '/mnt/passes';
  await cli(a, 'attach', 'c1', `ext4:${target}`, '--snapshot');
  await a.lxd.sh('c1', `dd if=/dev/urandom of=${target}/big bs=1M count=100 2>/dev/null; sync`);
  await a.lxd.sh(
    'c1',
    `(i=0; while true; do i=$((i+1)); echo $i >> ${target}/log; done) >/dev/null 2>&1 & echo $! > /tmp/pid`,
  );

  const first = await pipe(['export', `c1:${target}`, '-', '--keep', 'move'], ['import', '-']);
  assert.deepEqual([first.sourceCode, first.targetCode], [0, 0], first.told);
  assert.equal(incoming(b).length, 1);
  assert.deepEqual(await cli(b, 'list', 'c1'), [], 'a first pass is no attachment');
  await a.lxd.sh('c1', 'kill $(cat /tmp/pid)');
  const began = performance.now();
  await cli(a, 'detach', `c1:${target}`);
  const last = await pipe(['export', `c1:${target}`, '-', '--since', 'move'], ['import', '-']);
  const downMs = performance.now() - began;

  assert.deepEqual([last.sourceCode, last.targetCode], [0, 0], last.told);
  assert.ok(last.passed < first.passed / 10, `${last.passed} of ${first.passed}`);
  const [here, there] = [await imageOf(a, target), await imageOf(b, target)];
  await cli(b, 'detach', `c1:${target}`);
  assert.deepEqual((await digestOnDisk(there.image, 'ext4')).lines, (await digestOnDisk(here.image, 'ext4')).lines);
  await cli(b, 'attach', 'c1', `ext4:${target}`, '--snapshot');
  assert.equal(
    await b.lxd.sh('c1', `stat -c %u ${target}/log; echo more >> ${target}/log && tail -1 ${target}/log`),
    '0\nmore',
  );
  assert.deepEqual(incoming(b), []);
  await cli(a, 'snapshot', 'remove', `c1:${target}`, 'move');
  for (const world of [a, b]) await cli(world, 'destroy', 'c1');
  process.stdout.write(`# down for ${downMs.toFixed(0)} ms, of which a good part is four starts of the command line\n`);
});

for (const [who, victim] of [
  ['the sender', 'source'],
  ['the receiver', 'target'],
] as const)
  test(`${who} is killed in the middle: nothing looks finished, nothing is left at the source, and the rest is sent`, async () => {
    const { a, b } = hosts;
    const target = '/mnt/killed';
    await cli(a, 'attach', 'c1', `ext4:${target}`, '--snapshot');
    await a.lxd.sh('c1', `dd if=/dev/urandom of=${target}/big bs=1M count=100 2>/dev/null; sync`);
    const { id } = await imageOf(a, target);

    const cut = await pipe(['export', id, '-'], ['import', '-'], (bytes, ends) => {
      if (bytes > 60 * 2 ** 20) ends[victim].kill('SIGKILL');
    });

    assert.notDeepEqual([cut.sourceCode, cut.targetCode], [0, 0]);
    assert.deepEqual(await cli(b, 'list', 'c1'), []);
    const blocks = await cli<readonly string[]>(b, 'import', '--blocks', id);
    assert.ok(blocks.length > 5, `${blocks.length}`);
    const has = join(dir, `has-${victim}`);
    writeFileSync(has, `${blocks.join('\n')}\n`);
    const rest = await pipe(['export', id, '-', '--has', has], ['import', '-']);
    assert.deepEqual([rest.sourceCode, rest.targetCode], [0, 0], rest.told);
    assert.ok(rest.passed < 90 * 2 ** 20, `${rest.passed}`);
    assert.equal(await b.lxd.sh('c1', `sha256sum ${target}/big`), await a.lxd.sh('c1', `sha256sum ${target}/big`));
    assert.deepEqual(await cli(a, 'snapshot', 'list'), []);
    assert.deepEqual(incoming(b), []);
    for (const world of [a, b]) await cli(world, 'destroy', 'c1');
  });

test('a file that both hosts reach is let go of here and mapped there, with nothing sent', async () => {
  const { a, b } = hosts;
  const image = join(dir, 'shared.img');
  await makeTreeImage(image, { files: 100, fsType: 'ext4', sizeBytes: 64 * 2 ** 20 });
  await cli(a, 'attach', 'c1', `${image}:/mnt/shared`);
  await a.lxd.sh('c1', 'echo mine > /mnt/shared/mine; chown 1000:1000 /mnt/shared/mine');
  const { code } = await a.cli('export', 'c1:/mnt/shared', join(dir, 'no'), '--json');
  assert.notEqual(code, 0, 'its bytes are not in the pool');

  const moved = await pipe(['export', 'c1:/mnt/shared', '-', '--shared'], ['import', '-']);

  assert.deepEqual([moved.sourceCode, moved.targetCode], [0, 0], moved.told);
  assert.ok(moved.passed < 1000);
  assert.deepEqual(await cli(a, 'list', 'c1'), []);
  assert.equal(
    await b.lxd.sh('c1', 'stat -c %u:%g /mnt/shared/mine; stat -c %u /mnt/shared/d0000/f4'),
    '1000:1000\n1000',
  );
  await cli(b, 'destroy', 'c1');
});

test('a root file system moves with a volume: the root gets ids where there is no instance yet, the volume waits for it', async () => {
  const { a, b } = hosts;
  const rootfs = join(dir, 'rootfs');
  mkdirSync(rootfs);
  await makeRootfs(rootfs);
  await a.addTemplate('busybox', { from: rootfs });
  const boot = async (world: World, view: AttachmentView) => {
    chmodSync(world.dir, 0o711);
    const ids = view.extents.find(e => e.kind === 'uid');
    assert.ok(ids);
    await world.lxd.createOn('r1', view.hostPath, { base: ids.hostId, size: ids.count });
    await world.lxd.start('r1');
  };
  const spawned = await cli<{ attachments: readonly [AttachmentView] }>(a, 'spawn', 'r1', 'busybox');
  await boot(a, spawned.attachments[0]);
  await cli(a, 'attach', 'r1', 'xfs:/mnt/data', '--snapshot');
  await a.lxd.sh('r1', 'echo root > /root/file; echo data > /mnt/data/file; chown 1000:1000 /root/file; sync');
  const file = join(dir, 'r1.stream');
  await a.lxd.stop('r1');
  await cli(a, 'export', 'r1', file);

  const { code, stdout } = await b.cli('import', file, '--json');
  assert.equal(code, 3, 'the volume has no instance yet');
  assert.match(stdout, /SV_INSTANCE_NOT_FOUND/);
  const [root] = await cli<readonly AttachmentView[]>(b, 'list', 'r1');
  assert.equal(root?.role, 'root');
  if (root) await boot(b, root);
  const [waiting] = await cli<readonly { attachment: string; whole: boolean }[]>(b, 'import', '--received');
  assert.equal(waiting?.whole, true);
  await cli(b, 'import', waiting?.attachment ?? '', '--received');

  assert.equal(await b.lxd.sh('r1', 'cat /root/file /mnt/data/file; stat -c %u /root/file'), 'root\ndata\n1000');
  assert.deepEqual(incoming(b), []);
  await b.lxd.stop('r1');
  for (const world of [a, b]) {
    await world.lxd.delete('r1');
    await cli(world, 'destroy', 'r1');
  }
});
