/** The command line against a whole host: what it refuses, what it tells, and that an agent in between changes nothing. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CODES, type Code } from '../../src/errors.ts';
import { assertHostUnchanged, type HostState, hostState } from '../rig/host.ts';
import { list } from './ask.ts';
import { type Agent, makeWorld, type World } from './world.ts';

let world: World;
let images: string;
const image = (name: string) => join(images, name);

before(async () => {
  world = await makeWorld();
  images = join(world.dir, 'images');
  mkdirSync(images);
  await Promise.all([
    world.addTemplate('web', { files: 20 }),
    world.addTemplate('high', { files: 20, idBase: 100_000 }),
  ]);
  await world.lxd.launch('c1');
  await world.lxd.launch('priv', { 'security.privileged': 'true' });
  await world.lxd.createProject('other');
  await world.lxd.create('twin', {}, {});
  makeImages();
});
after(async () => await world?.[Symbol.asyncDispose]());

function makeImages(): void {
  const blank = (name: string, bytes = 16 << 20) => {
    writeFileSync(image(name), '');
    truncateSync(image(name), bytes);
    return image(name);
  };
  const written = (name: string, at: number, bytes: string) => {
    const path = blank(name);
    const content = readFileSync(path);
    content.write(bytes, at, 'latin1');
    writeFileSync(path, content);
  };
  const mke2fs = (name: string, ...args: readonly string[]) =>
    execFileSync('mke2fs', ['-q', '-t', 'ext4', ...args, blank(name)]);
  mke2fs('good');
  mke2fs('taken');
  mke2fs('based');
  mke2fs('options');
  execFileSync('tune2fs', ['-E', 'mount_opts=data=writeback', image('options')], { stdio: 'ignore' });
  blank('blank');
  written('luks', 0, 'LUKS\xba\xbe\x00\x02');
  written('lvm', 512, 'LABELONE\x01\0\0\0\0\0\0\0\0\0\0\0 \0\0\0LVM2 001');
  execFileSync('mkswap', [blank('swap')], { stdio: 'ignore' });
  written('mbr', 446, `\x80\x01\x01\0\x83\x0f\x3f\x00\0\x08\0\0\0\x70\0\0${'\0'.repeat(48)}\x55\xaa`);
  writeFileSync(image('empty'), '');
  writeFileSync(image('text'), 'not an image\n'.repeat(1000));
  mkdirSync(image('dir'));
  execFileSync('mkfifo', [image('fifo')]);
  symlinkSync('good', image('link'));
}

type Refusal = readonly [args: readonly string[], code: Code, text: RegExp];
/** What a refusal must not change: mounts and loop devices, files and their contents, the journal as it is listed, the devices. */
type Whole = { readonly host: HostState; readonly sums: string; readonly devices: string; readonly list: unknown };

async function whole(): Promise<Whole> {
  // To see whose the root directory of "based" is it has to be mounted, which the kernel notes in it; of "taken" it is.
  const files = readdirSync(images).filter(name => !['dir', 'fifo', 'link', 'based', 'taken'].includes(name));
  const [uuid, label] = [0x68, 0x78].map(at => readFileSync(image('based')).subarray(1024 + at, 1024 + at + 16));
  const instances = await world.lxd.api.list('/1.0/instances?recursion=1&all-projects=true');
  return {
    host: hostState(world.dir),
    sums: `${execFileSync('sha256sum', files.map(image), { encoding: 'utf8' })}${uuid?.toString('hex')} ${label}`,
    devices: JSON.stringify(instances.map(i => [i['name'], i['devices']])),
    list: await list(world),
  };
}

/** With --json: one document with the error on standard output, and one line for people on standard error. */
async function assertRefused(args: readonly string[], code: Code, text: RegExp): Promise<void> {
  const { code: status, stdout, stderr } = await world.cli('--json', ...args);
  const told = `${args.join(' ')}\n${stdout}${stderr}`;
  const lines = stderr.trimEnd().split('\n');
  assert.match(lines.pop() ?? '', new RegExp(`^shiftvol: .*(?:${text.source})`), told);
  for (const line of lines) assert.equal(JSON.parse(line).event, 'progress', told);
  assert.equal(status, CODES[code].exit, told);
  const { error } = JSON.parse(stdout);
  assert.equal(error.code, code, told);
  assert.ok(
    Object.keys(error).every(key => ['code', 'message', 'field', 'remedy', 'help'].includes(key)),
    told,
  );
}

const REFUSED: readonly Refusal[] = [
  // targets
  ...[
    'mnt',
    '/mnt/..',
    '/mnt/../etc',
    '/./x',
    '/',
    '/proc/x',
    '/sys',
    '/dev/shm',
    '//mnt',
    '/mnt/',
    '/a\nb',
    `/${'x'.repeat(300)}`,
  ].map(
    (target): Refusal => [
      ['attach', 'c1', `web:${target}`, '--snapshot'],
      target.startsWith('/') ? 'SV_TARGET_INVALID' : 'SV_USAGE',
      /Cannot (mount at|read) /,
    ],
  ),
  [['attach', 'c1', 'web', '--snapshot'], 'SV_USAGE', /SOURCE:TARGET/],
  [['attach', 'c1', ':/mnt', '--snapshot'], 'SV_USAGE', /SOURCE:TARGET/],
  [['attach', 'c1', 'web:/mnt/a:rw:ro', '--snapshot'], 'SV_USAGE', /":ro" or ":rw"/],
  [['attach', 'c1', 'web:/mnt/a:RO', '--snapshot'], 'SV_USAGE', /":ro" or ":rw"/],
  // instances
  [['attach', 'nobody', 'web:/mnt', '--snapshot'], 'SV_INSTANCE_NOT_FOUND', /"nobody".*doctor/],
  [['attach', '', 'web:/mnt', '--snapshot'], 'SV_MESSAGE', /instance/],
  [['attach', '../c1', 'web:/mnt', '--snapshot'], 'SV_INSTANCE_NOT_FOUND', /c1/],
  [['attach', 'priv', 'web:/mnt', '--snapshot'], 'SV_RUNTIME_UNSUPPORTED', /privileged/],
  [['attach', 'c1', 'web:/mnt', '--snapshot', '--project', 'nowhere'], 'SV_INSTANCE_NOT_FOUND', /"nowhere"/],
  [['attach', 'c1', 'web:/mnt', '--snapshot', '--project', 'other'], 'SV_INSTANCE_NOT_FOUND', /"other"/],
  // sources
  ...(
    [
      ['none', 'SV_VOLUME_NOT_FOUND', /no such file/],
      ['dir', 'SV_IMAGE_REFUSED', /directory/],
      ['fifo', 'SV_IMAGE_REFUSED', /FIFO/],
      ['link', 'SV_IMAGE_REFUSED', /symbolic link/],
      ['luks', 'SV_IMAGE_REFUSED', /LUKS/],
      ['lvm', 'SV_IMAGE_REFUSED', /LVM2/],
      ['swap', 'SV_IMAGE_REFUSED', /swap/],
      ['mbr', 'SV_IMAGE_REFUSED', /MBR/],
      ['blank', 'SV_IMAGE_REFUSED', /zeros/],
      ['empty', 'SV_IMAGE_REFUSED', /empty/],
      ['text', 'SV_IMAGE_REFUSED', /without any file system/],
      ['options', 'SV_IMAGE_REFUSED', /mount options/],
    ] as const
  ).map(([name, code, text]): Refusal => [['attach', 'c1', `IMAGES/${name}:/mnt`], code, text]),
  [['attach', 'c1', '/dev/null:/mnt'], 'SV_IMAGE_REFUSED', /character device/],
  [['attach', 'c1', '/dev/none:/mnt'], 'SV_VOLUME_NOT_FOUND', /none/],
  [['attach', 'c1', 'IMAGES/based:/mnt', '--id-base', '100000'], 'SV_IMAGE_REFUSED', /100000/],
  [['attach', 'c1', 'IMAGES/good:/mnt', '--id-base', '-1'], 'SV_USAGE', /--id-base/],
  [['attach', 'c1', 'IMAGES/based:/mnt', '--id-base', '4294967295'], 'SV_IDMAP_INVALID', /4294967295/],
  [['attach', 'c1', 'web:/mnt'], 'SV_USAGE', /--snapshot/],
  [['attach', 'c1', 'IMAGES/good:/mnt', '--snapshot'], 'SV_USAGE', /template's name/],
  [['attach', 'c1', 'IMAGES/taken:/mnt/other'], 'SV_VOLUME_IN_USE', /c1:\/mnt\/taken/],
  [['attach', 'c1', 'IMAGES/good:/mnt/taken'], 'SV_TARGET_TAKEN', /images\/taken/],
  [['attach', 'c1', 'IMAGES/taken:/mnt/taken:ro'], 'SV_TARGET_TAKEN', /images\/taken/],
  // templates
  [['attach', 'c1', 'none:/mnt', '--snapshot'], 'SV_TEMPLATE_NOT_FOUND', /"none"/],
  [['attach', 'c1', '..:/mnt', '--snapshot'], 'SV_USAGE', /a-z/],
  [['spawn', 's1', 'none'], 'SV_TEMPLATE_NOT_FOUND', /"none"/],
  [['spawn', 's1', 'We/b'], 'SV_USAGE', /a-z/],
  [['template', 'import', 'web', '--from', '/etc'], 'SV_TEMPLATE_EXISTS', /"web"/],
  [['template', 'import', 'Bad Name', '--from', '/etc'], 'SV_USAGE', /a-z/],
  [['template', 'import', '.hidden', '--from', '/etc'], 'SV_USAGE', /a-z/],
  [['template', 'import', 'x', '--from', '/none'], 'SV_VOLUME_NOT_FOUND', /\/none/],
  [['template', 'import', 'x', '--from', 'IMAGES/fifo'], 'SV_USAGE', /neither a directory/],
  [['template', 'import', 'x', '--from', 'IMAGES/luks'], 'SV_IMAGE_REFUSED', /LUKS/],
  [['template', 'import', 'x', '--from', 'IMAGES/swap'], 'SV_IMAGE_REFUSED', /swap/],
  [['template', 'import', 'x', '--from', 'IMAGES/options'], 'SV_IMAGE_REFUSED', /mount options/],
  [['template', 'import', 'x', '--from', 'IMAGES/good', '--fs', 'xfs'], 'SV_USAGE', /it is an image/],
  [['template', 'import', 'x', '--from', 'IMAGES/good', '--sha256', '0'.repeat(64)], 'SV_CHECKSUM', /sha256/],
  [['template', 'import', 'x', '--from', 'ftp://host/x'], 'SV_USAGE', /ftp/],
  [['template', 'show', 'none'], 'SV_TEMPLATE_NOT_FOUND', /"none"/],
  [['template', 'remove', 'none'], 'SV_TEMPLATE_NOT_FOUND', /"none"/],
  [['template', 'remove', 'high'], 'SV_TEMPLATE_IN_USE', /1 snapshot/],
  // a request id that was given to another request
  [['attach', 'c1', 'IMAGES/good:/mnt/x', '--request-id', 'R1'], 'SV_USAGE', /"R1".*attach/],
  [['detach', 'c1', '/mnt/taken', '--request-id', 'R1'], 'SV_USAGE', /"R1".*attach/],
  [['attach', 'c1', 'IMAGES/good:/mnt/x', '--request-id', 'x'.repeat(600)], 'SV_MESSAGE', /requestId/],
  [['attach', 'c1', 'IMAGES/good:/mnt/x', '--request-id', 'x'.repeat(70_000)], 'SV_MESSAGE', /65536 bytes/],
  // sizes
  ...['', '4', '4X', '-4G', '1e3', '1M', '100E'].map(
    (size): Refusal => [['pool', 'grow', '--size', size], 'SV_USAGE', /size|--size|grow/],
  ),
  [['pool', 'create', '--size', '20G'], 'SV_POOL_EXISTS', /exists/],
  [['pool', 'remove'], 'SV_BUSY', /2 templates/],
  // what is not there, or cannot be let go
  [['detach', 'c1', '/mnt/none'], 'SV_ATTACHMENT_NOT_FOUND', /c1:\/mnt\/none.*list/],
  [['detach', 'c1'], 'SV_USAGE', /target, or --volume-id/],
  [['detach', 'c1', '/mnt/taken', '--volume-id', 'v'], 'SV_USAGE', /target, or --volume-id/],
  [['detach', 'c1:/mnt/a', '/mnt/b'], 'SV_USAGE', /which target/],
  [['detach', 'c1', '/'], 'SV_USAGE', /destroy/],
  [['destroy', 'nobody'], 'SV_ATTACHMENT_NOT_FOUND', /"nobody"/],
  [['destroy', 'c1', '/mnt/none'], 'SV_ATTACHMENT_NOT_FOUND', /mnt\/none/],
  [['show', 'nobody'], 'SV_ATTACHMENT_NOT_FOUND', /"nobody"/],
  [['show', 'c1:/mnt/none'], 'SV_ATTACHMENT_NOT_FOUND', /mnt\/none/],
  // ids
  [['idmap', 'alloc', 'x', '--count', '0'], 'SV_MESSAGE', /count/],
  [['idmap', 'alloc', 'x', '--count', 'many'], 'SV_USAGE', /--count/],
  [['idmap', 'alloc', 'x', '--count', '4294967296'], 'SV_RANGE_EXHAUSTED', /in use|free/],
  [['idmap', 'alloc', 'x', '--start', '1000'], 'SV_IDMAP_INVALID', /subuid/],
  [['idmap', 'release', 'c1'], 'SV_BUSY', /destroy c1/],
  ...[
    [['parse', 'x'], 'SV_IDMAP_SYNTAX'],
    [['parse', ''], 'SV_IDMAP_SYNTAX'],
    [['parse', 'u:0:100000'], 'SV_IDMAP_SYNTAX'],
    [['parse', 'u:-1:100000:1'], 'SV_IDMAP_SYNTAX'],
    [['parse', 'u:0:100000:0'], 'SV_IDMAP_INVALID'],
    [['parse', 'u:0:4294967295:2'], 'SV_IDMAP_INVALID'],
    [['parse', 'u:0:100000:65536', 'u:10:300000:1'], 'SV_IDMAP_INVALID'],
    [['parse', '--form', 'bogus', 'u:0:100000:1'], 'SV_USAGE'],
    [['compose', 'b:0:0:1', 'b:5:200000:1'], 'SV_IDMAP_INVALID'],
    [['check', 'b:0:100000:1', '--within', '5'], 'SV_USAGE'],
  ].map(([args, code]): Refusal => [['idmap', ...(args as string[])], code as Code, /Cannot/]),
];

describe('through the agent', () => {
  let agent: Agent;
  let state: Whole;
  before(async () => {
    agent = await world.agent();
    for (const args of [
      ['attach', 'c1', `${image('taken')}:/mnt/taken`, '--request-id', 'R1'],
      ['attach', 'c1', 'high:/mnt/high', '--snapshot'],
    ])
      assert.equal((await world.cli(...args)).code, 0);
    state = await whole();
  });
  after(async () => {
    await world.cli('destroy', 'c1');
    await agent?.[Symbol.asyncDispose]();
  });

  for (const [args, code, text] of REFUSED)
    test(`refuses ${args.join(' ').slice(0, 90)}`, async () => {
      await assertRefused(
        args.map(word => word.replace('IMAGES', images)),
        code,
        text,
      );

      await assertHostUnchanged(state.host);
      assert.deepEqual({ ...(await whole()), host: state.host }, state);
    });
});
