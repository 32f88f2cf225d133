import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { load } from 'js-yaml';
import { loadConfig, PACKAGED_CONFIG } from '../../../src/config/load.ts';
import { checksum, PACKAGED_CHECKSUM } from '../../../src/config/packaged.ts';
import { schema } from '../../../src/config/schema.ts';
import { isError } from '../../../src/errors.ts';

const dir = mkdtempSync(join(tmpdir(), 'shiftvol-config-'));
after(() => rmSync(dir, { recursive: true }));
let n = 0;
const file = (text: string) => {
  const path = join(dir, `${n++}.yaml`);
  writeFileSync(path, text);
  return path;
};
const refusal = (text: string, env = {}) => {
  const config = file(text);
  try {
    loadConfig({ config }, env);
  } catch (error) {
    assert.ok(isError(error, 'SV_CONFIG'), String(error));
    return { message: error.message.replace(config, 'FILE'), field: error.field, remedy: error.remedy };
  }
  return assert.fail(`accepted: ${text}`);
};

test('the packaged plugin.yaml shows every key at its default', () => {
  const shown = load(readFileSync(PACKAGED_CONFIG, 'utf8'));

  assert.deepEqual(schema(shown, []), schema({}, []));
  assert.deepEqual(keysOf(shown), keysOf(sampleOfSchema()));
});

test('the packaged plugin.yaml is known by its checksum, and is not parsed then', () => {
  assert.equal(
    PACKAGED_CHECKSUM,
    checksum(readFileSync(PACKAGED_CONFIG, 'utf8')),
    'plugin.yaml was changed: put its new checksum into src/config/packaged.ts',
  );
  const empty = file('');
  assert.deepEqual(loadConfig({ config: PACKAGED_CONFIG }, {}), {
    ...loadConfig({ config: empty }, {}),
    file: PACKAGED_CONFIG,
  });
});

test('the manifest in plugin.yaml has the name and version of package.json', () => {
  const { name, version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));

  const config = loadConfig({ config: PACKAGED_CONFIG }, {});

  assert.deepEqual([config.name, config.version], [name, version]);
});

test('an empty file, or comments alone, means every default', () => {
  for (const text of ['', '# nothing\n\n', '---\n', 'bus:\n', 'null\n']) {
    const config = loadConfig({ config: file(text) }, {});

    assert.equal(config.host, hostname());
    assert.equal(config.poolDir, '/var/lib/shiftvol/pool');
    assert.equal(config.bus.queueLimits.maxLength, 100_000);
  }
});

test('a long file of comments is read at once', () => {
  const config = file(`${'#  - a comment   \n\n   '.repeat(20_000)}\nparallel: 3\n`);
  const started = performance.now();

  assert.equal(loadConfig({ config }, {}).parallel, 3);
  assert.ok(performance.now() - started < 2000);
});

test('options go before the environment, the environment before the file', () => {
  const config = file('state_dir: /file\nrun_dir: /file\nhost: file\nbus:\n  prefetch: 3\n  listen: [rabbit://file]\n');

  const read = loadConfig(
    { config, stateDir: '/option' },
    { SHIFTVOL_STATE_DIR: '/env', SHIFTVOL_RUN_DIR: '/env', SHIFTVOL_TRANSPORT_URL: 'rabbit://u:p@h/v' },
  );

  assert.deepEqual([read.stateDir, read.runDir, read.host, read.poolDir], ['/option', '/env', 'file', '/option/pool']);
  assert.deepEqual([read.bus.prefetch, read.bus.listen, read.bus.url], [3, ['rabbit://u:p@h/v'], 'rabbit://u:p@h/v']);
});

test('$SHIFTVOL_CONFIG names the file, --config goes before it', () => {
  const [a, b] = [file('parallel: 2\n'), file('parallel: 3\n')];

  assert.equal(loadConfig({}, { SHIFTVOL_CONFIG: a }).parallel, 2);
  assert.equal(loadConfig({ config: b }, { SHIFTVOL_CONFIG: a }).parallel, 3);
});

test('a file that is named but not there is refused', () => {
  assert.throws(() => loadConfig({ config: join(dir, 'none.yaml') }, {}), {
    code: 'SV_CONFIG',
    remedy: 'name a file that exists with --config or SHIFTVOL_CONFIG',
  });
});

const refused: readonly [string, string, string][] = [
  ['a: 1\n b: 2\n', 'Cannot read the configuration FILE:2: bad indentation of a mapping entry', 'config'],
  ['- a\n', 'Cannot read the configuration FILE: a mapping of keys is accepted', 'config'],
  ['host: h\nstate_dri: /x\n', 'FILE:2: "state_dri": no such key, did you mean "state_dir"?', 'state_dri'],
  ['bus:\n  # c\n  prefech: 1\n', 'FILE:3: "bus.prefech": no such key, did you mean "prefetch"?', 'bus.prefech'],
  ['bus:\n  prefetch: 0\n', 'FILE:2: "bus.prefetch": 0, a whole number from 1 to 2000 is accepted', 'bus.prefetch'],
  ['bus: 3\n', 'FILE:1: "bus": 3, a mapping of keys is accepted', 'bus'],
  [
    'bus:\n  exchanges:\n    - exchange: a\n    - topics: [x]\n',
    'FILE:4: "bus.exchanges[1].exchange": nothing',
    'bus.exchanges[1].exchange',
  ],
  [
    'bus:\n  exchanges:\n    - {exchange: a, priorities: [loud]}\n',
    'FILE:3: "bus.exchanges[0].priorities[0]": "loud", one of info',
    'bus.exchanges[0].priorities[0]',
  ],
  ['state_dir: var\n', '"state_dir": "var", an absolute path without "//", "." and ".." is accepted', 'state_dir'],
  ['state_dir: /var/../etc\n', '"state_dir": "/var/../etc", an absolute path', 'state_dir'],
  [
    'bindings:\n  events:\n    instance.create.strat: true\n',
    'FILE:3: "bindings.events.instance.create.strat": no such event, did you mean "instance.create.start"?',
    'bindings.events.instance.create.strat',
  ],
  [
    'bindings:\n  images:\n    - {image: Web, template: t}\n',
    '"bindings.images[0].image": "Web", a uuid in lower case or "*" is accepted',
    'bindings.images[0].image',
  ],
  [
    'bindings:\n  images:\n    - {image: "*", template: "../{image_uuid}"}\n',
    'the name of a template',
    'bindings.images[0].template',
  ],
  [
    'bindings:\n  images:\n    - {image: "*", template: "{volume_id}"}\n',
    'the placeholders {image_uuid}, {instance_uuid} are accepted',
    'bindings.images[0].template',
  ],
  [
    'bindings:\n  volumes:\n    - {volume: "*"}\n',
    'FILE:3: "bindings.volumes[0]": 0 sources, exactly one of template, device, file is accepted',
    'bindings.volumes[0]',
  ],
  ['bindings:\n  volumes:\n    - {volume: "*", device: /dev/a, file: /b}\n', '2 sources', 'bindings.volumes[0]'],
  [
    'bindings:\n  volumes:\n    - {volume: "*", device: "/etc/{volume_id}"}\n',
    'an absolute path below /dev is accepted',
    'bindings.volumes[0].device',
  ],
  [
    'bindings:\n  volumes:\n    - {volume: "*", device: "/dev/../etc/{volume_id}"}\n',
    'an absolute path below /dev is accepted',
    'bindings.volumes[0].device',
  ],
  [
    'bindings:\n  volumes:\n    - {volume: "*", file: "/v/{host}"}\n',
    'the placeholders {volume_id}, {instance_uuid} are accepted',
    'bindings.volumes[0].file',
  ],
  [
    'bindings:\n  volumes:\n    - {volume: "*", file: /v, target: mnt}\n',
    '"bindings.volumes[0].target": "mnt"',
    'bindings.volumes[0].target',
  ],
  [
    'bindings:\n  volumes:\n    - {volume: "*", file: /v, size: 1GiB}\n',
    'accepted with template only',
    'bindings.volumes[0].size',
  ],
  [
    'bindings:\n  volumes:\n    - {volume: "*", template: t, size: lots}\n',
    '"lots", bytes or a size like 10GiB',
    'bindings.volumes[0].size',
  ],
  ['bus:\n  listen: [http://u:secret@h]\n', 'scheme "http"', 'bus.listen[0]'],
  ['bus:\n  listen: ["rabbit://u:secret@h:99999/"]\n', 'port 99999', 'bus.listen[0]'],
  ['bus:\n  queue: amq.x\n', 'does not begin with "amq."', 'bus.queue'],
  ['id_range_size: 65536.5\n', '65536.5, a whole number', 'id_range_size'],
  ['parallel: yes\n', '"yes", a whole number', 'parallel'],
  ['__proto__: {state_dir: /x}\n', '"__proto__": no such key', '__proto__'],
];
for (const [text, message, field] of refused) {
  test(`refuses ${JSON.stringify(text)}`, () => {
    const told = refusal(text);

    assert.ok(told.message.includes(message), told.message);
    assert.equal(told.field, field);
    assert.ok(!told.message.includes('secret'));
  });
}

test('an override that is wrong names the variable, not a line of the file', () => {
  const told = refusal('host: h\n', { SHIFTVOL_TRANSPORT_URL: 'rabbit://u:secret@h:0' });

  assert.ok(told.message.includes('SHIFTVOL_TRANSPORT_URL: "bus.'), told.message);
  assert.equal(told.remedy, 'correct SHIFTVOL_TRANSPORT_URL');
  assert.ok(!told.message.includes('secret'));
});

test('sizes are read with their unit', () => {
  for (const [text, bytes] of [
    ['10GiB', 10 * 2 ** 30],
    ['512 MiB', 2 ** 29],
    ['4096', 4096],
    ['7B', 7],
  ] as const)
    assert.equal(loadConfig({ config: file(`bus: {max_message: ${text}}\n`) }, {}).bus.maxMessage, bytes);
});

function keysOf(value: unknown, path = ''): string[] {
  if (Array.isArray(value)) return value.length === 0 ? [path] : keysOf(value[0], `${path}[]`);
  if (typeof value !== 'object' || value === null) return [path];
  return [...new Set(Object.entries(value).flatMap(([k, v]) => keysOf(v, `${path}.${k}`)))].sort();
}

/** Every key the schema has, in the file's spelling, from what it makes of nothing. */
function sampleOfSchema(): unknown {
  const snake = (value: unknown): unknown => {
    if (value instanceof Map) return Object.fromEntries(value);
    if (Array.isArray(value)) return value.map(snake);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([k, v]) => [k.replace(/[A-Z]/g, c => `_${c.toLowerCase()}`), snake(v)]),
    );
  };
  return snake(schema({}, []));
}
