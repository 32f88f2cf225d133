/** The support bundle of a host whose configuration is full of passwords: none of them is in it. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { hider } from '../../../src/cli/bundle.ts';

const MAIN = fileURLToPath(new URL('../../../src/cli/main.ts', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'shiftvol-bundle-'));
after(() => rmSync(dir, { recursive: true }));

/** As they are, and as a URL has them. */
const SECRETS = [
  'tr4nsp0rt/pw',
  'tr4nsp0rt%2Fpw',
  'm4n4gement',
  'cl0ud"pw',
  'cr3dential',
  's3cure',
  'fr0m-env',
  'rpc-h1dden',
];
const CONFIG = `
bus:
  listen: ["rabbit://nova:tr4nsp0rt%2Fpw@127.0.0.1:1/v,nova:tr4nsp0rt%2Fpw@127.0.0.2:1/v"]
  management_url: http://guest:m4n4gement@127.0.0.1:1
  reconnect: {timeout_ms: 200}
rpc: {url: "rabbit://nova:rpc-h1dden@127.0.0.1:1/"}
`;
const CLOUDS = `
clouds:
  one: {auth: {auth_url: http://127.0.0.1:1, username: u, password: 'cl0ud"pw'}}
  two: {auth: {auth_url: http://127.0.0.1:1, application_credential_id: x, application_credential_secret: cr3dential}}
`;
test('it has what helps, and no password of anything, wherever that was told', () => {
  mkdirSync(join(dir, 'state'));
  writeFileSync(join(dir, 'plugin.yaml'), CONFIG);
  writeFileSync(join(dir, 'clouds.yaml'), CLOUDS);
  writeFileSync(join(dir, 'secure.yaml'), 'clouds: {one: {auth: {token: s3cure}}}\n');
  const file = join(dir, 'bundle.tar.gz');
  const command = [
    MAIN,
    'support-bundle',
    file,
    '--config',
    join(dir, 'plugin.yaml'),
    '--state-dir',
    join(dir, 'state'),
    '--run-dir',
    join(dir, 'run'),
  ];

  const { status, stdout, stderr } = spawnSync(process.execPath, command, {
    cwd: dir,
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], HOME: dir, OS_PASSWORD: 'fr0m-env' },
  });

  assert.equal(status, 0, stderr);
  assert.equal(stdout, `${file}\n`);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const names = execFileSync('tar', ['tzf', file], { encoding: 'utf8' }).trim().split('\n');
  assert.deepEqual(names, [
    'version.json',
    'config.json',
    'doctor.json',
    'attachments.json',
    'ids.json',
    'pool.json',
    'subid.txt',
    'mounts.txt',
    'loops.txt',
    'agent.log',
  ]);
  execFileSync('tar', ['xzf', file, '-C', join(dir, 'state')]);
  const text = (name: string) => readFileSync(join(dir, 'state', name), 'utf8');
  for (const name of names)
    for (const secret of SECRETS) assert.ok(!text(name).includes(secret), `${secret} in ${name}`);
  assert.match(text('config.json'), /rabbit:\/\/nova:\*\*\*@127\.0\.0\.1:1/);
  assert.ok(JSON.parse(text('doctor.json')).checks.length > 10);

  const again = spawnSync(process.execPath, command, {
    cwd: dir,
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], HOME: dir },
  });
  assert.equal(again.status, 1, 'what is there is not overwritten');
});

test('what a daemon or a log has told is hidden, however it is spelled', () => {
  const hide = hider(['tr4nsp0rt/pw', 'cl0ud"pw', 'pw', 'tr4nsp0rt']);

  assert.equal(
    hide('at amqp://nova:tr4nsp0rt%2Fpw@h: {"password":"cl0ud\\"pw"} tr4nsp0rt/pw'),
    'at amqp://nova:***@h: {"password":"***"} ***',
  );
});
