/**
 * The packages of the distribution that the tests, the demo and the benchmarks need: what is there is left alone, what is missing is
 * installed, and nothing that is installed is started. `node test/rig/setup.ts [--check] [--for demo|test|bench|openstack|vm|deploy]`
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { parseArgs, styleText } from 'node:util';
import { browserThere } from './browser.ts';

export const PURPOSES = ['demo', 'test', 'bench', 'openstack', 'vm', 'deploy'] as const;
export type Purpose = (typeof PURPOSES)[number];

type Wanted = { readonly package: string; readonly why: string; readonly for: readonly Purpose[] };

const ALL = ['demo', 'test', 'bench', 'openstack', 'deploy'] as const;
const BEYOND_DEMO = ['test', 'bench', 'openstack'] as const;
/** The python3- packages hold all the code; the daemons' own packages (users, init scripts, databases) are not needed. */
const CLOUD = ['openstack'] as const;
const BROWSER: Wanted = { package: 'chromium', why: 'a browser, for the tests of the page', for: ['test', 'bench'] };
/** Debian's and Ubuntu's names are the same, but for the browser's. */
const PACKAGES: readonly Wanted[] = [
  { package: 'rabbitmq-server', why: 'the message broker', for: ALL },
  { package: 'python3-oslo.messaging', why: 'OpenStack’s own side of the bus', for: ALL },
  { package: 'busybox-static', why: 'the containers’ image is made of it', for: ALL },
  { package: 'uidmap', why: 'unprivileged containers', for: ALL },
  { package: 'e2fsprogs', why: 'ext4', for: PURPOSES },
  { package: 'xfsprogs', why: 'XFS', for: ALL },
  { package: 'btrfs-progs', why: 'btrfs', for: BEYOND_DEMO },
  { package: 'qemu-utils', why: 'qcow2 images', for: BEYOND_DEMO },
  { package: 'acl', why: 'access control lists, looked at from outside', for: BEYOND_DEMO },
  { package: 'attr', why: 'extended attributes, looked at from outside', for: BEYOND_DEMO },
  { package: 'libcap2-bin', why: 'file capabilities, looked at from outside', for: [...BEYOND_DEMO, 'deploy'] },
  { package: 'openssl', why: 'certificates for the tests of TLS', for: BEYOND_DEMO },
  { package: 'prometheus', why: 'reads the metrics, checks the alerts and the dashboard', for: ['test'] },
  { package: 'gcc', why: 'the bare system calls in C, to compare with', for: BEYOND_DEMO },
  { package: 'libc6-dev', why: 'the same', for: BEYOND_DEMO },
  BROWSER,
  { package: 'fonts-dejavu-core', why: 'what it writes with', for: ['test', 'bench'] },
  { package: 'lxd-tools', why: 'fuidshift, to compare with', for: ['bench'] },
  { package: 'qemu-system-x86', why: 'the test machine', for: ['vm'] },
  { package: 'mmdebstrap', why: 'the test machine’s image, and the base of ours', for: ['vm', 'deploy'] },
  { package: 'lintian', why: 'looks at the package', for: ['deploy'] },
  { package: 'buildah', why: 'builds the image', for: ['deploy'] },
  { package: 'runc', why: 'runs the agent as a pod', for: ['deploy'] },
  { package: 'golang-github-containers-common', why: 'the seccomp profile of pods', for: ['deploy'] },
  { package: 'erofs-utils', why: 'the same', for: ['vm'] },
  { package: 'xz-utils', why: 'its kernel’s modules', for: ['vm'] },
  { package: 'python3-keystone', why: 'OpenStack Identity', for: CLOUD },
  { package: 'python3-placement', why: 'OpenStack Placement', for: CLOUD },
  { package: 'python3-glance', why: 'OpenStack Image', for: CLOUD },
  { package: 'python3-cinder', why: 'OpenStack Block Storage', for: CLOUD },
  { package: 'python3-barbican', why: 'OpenStack Key Manager', for: CLOUD },
  { package: 'python3-nova', why: 'OpenStack Compute', for: CLOUD },
  { package: 'python3-pymysql', why: 'their way to the database', for: CLOUD },
  { package: 'python3-openstackclient', why: 'the openstack command, for the demo', for: CLOUD },
  { package: 'python3-pytest', why: 'the tests of the Nova driver', for: CLOUD },
  { package: 'uwsgi-core', why: 'serves Identity and Placement', for: CLOUD },
  { package: 'uwsgi-plugin-python3', why: 'the same', for: CLOUD },
  { package: 'sudo', why: 'Cinder runs its tools through it', for: CLOUD },
  { package: 'mariadb-server-core', why: 'the services’ database', for: CLOUD },
  { package: 'mariadb-client-core', why: 'the same, asked', for: CLOUD },
];
/** What the distribution has: LXD is no package of its own any more where Incus is. */
const RUNTIMES = {
  lxd: { package: 'lxd', why: 'the container runtime', for: ALL },
  incus: { package: 'incus-base', why: 'the container runtime', for: ALL },
  /** Before Incus was split up. */
  'incus-whole': { package: 'incus', why: 'the container runtime', for: ALL },
} as const satisfies Record<string, Wanted>;

export type Distribution = { readonly name: string; readonly runtime: keyof typeof RUNTIMES };

/** Units that come with a package and are not needed: ours are private. */
const SERVICES: Readonly<Record<string, readonly string[]>> = {
  'rabbitmq-server': ['rabbitmq-server.service'],
  prometheus: ['prometheus.service'],
  lxd: ['lxd.service', 'lxd.socket'],
  'incus-base': ['incus.service', 'incus.socket'],
  incus: ['incus.service', 'incus.socket'],
};

/** `/usr/sbin/policy-rc.d` answers 101, "do not", when a package wants to start its service. */
const POLICY = '/usr/sbin/policy-rc.d';
const POLICY_TEXT =
  '#!/bin/sh\n# Here while shiftvol installs packages: their services are not to be started.\nexit 101\n';

/** For people: the text is all there is to say. */
export class SetupError extends Error {}

/**
 * Makes sure of them. Prints a list of what is there, and what becomes of the rest.
 * @throws SetupError: something is missing, and this is only a check, or not root, or a distribution that is not known; apt-get failed
 */
export function ensurePackages(purpose: Purpose, options: { check?: boolean; quiet?: boolean } = {}): void {
  const distribution = readDistribution(readFileSync('/etc/os-release', 'utf8'));
  const wanted = wantedPackages(distribution, purpose);
  const missing = missingOf(wanted);
  if (!options.quiet || missing.length > 0) console.log(listText(distribution, wanted, missing));
  if (missing.length === 0) return;
  const names = missing.map(m => m.package);
  const byHand = `apt-get install --no-install-recommends ${names.join(' ')}`;
  if (options.check) throw new SetupError(`Missing: ${names.join(' ')}. To install: ${byHand}`);
  if (process.geteuid?.() !== 0)
    throw new SetupError(`Cannot install packages: not root. Run it with sudo, or yourself: sudo ${byHand}`);
  install(names);
  const still = missingOf(missing);
  if (still.length > 0) throw new SetupError(`Still missing: ${still.map(m => m.package).join(' ')}`);
  const services = names.flatMap(name => SERVICES[name] ?? []);
  if (services.length > 0 && existsSync('/run/systemd/system'))
    console.log(
      `At the next boot systemd would start what was installed. If it is not wanted: systemctl disable ${services.join(' ')}`,
    );
}

export function wantedPackages({ name, runtime }: Distribution, purpose: Purpose): readonly Wanted[] {
  const wanted = [...PACKAGES, RUNTIMES[runtime]].filter(p => p.for.includes(purpose));
  // Google's will do, which GitHub's machines have. Ubuntu's own is a snap by another name.
  if (browserThere() !== undefined) return wanted.filter(p => p.package !== BROWSER.package);
  return wanted.map(p => (p === BROWSER && name.startsWith('Ubuntu') ? { ...p, package: 'chromium-browser' } : p));
}

/** By /etc/os-release. @throws SetupError: not one that has what we need */
export function readDistribution(osRelease: string): Distribution {
  const field = (name: string) => new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(osRelease)?.[1] ?? '';
  const name = field('PRETTY_NAME') || field('ID');
  const version = Number(field('VERSION_ID'));
  if (field('ID') === 'debian' && version === 12) return { name, runtime: 'lxd' };
  // Testing and unstable have no number.
  if (field('ID') === 'debian' && (version >= 13 || field('VERSION_ID') === '')) return { name, runtime: 'incus' };
  if (field('ID') === 'ubuntu' && version >= 24.04) return { name, runtime: version < 25.04 ? 'incus-whole' : 'incus' };
  throw new SetupError(
    `Cannot set up ${name || 'this system'}: Debian 12 or later and Ubuntu 24.04 or later are known. By hand: RabbitMQ, LXD or Incus, Python with oslo.messaging, a static busybox, ext4, XFS and btrfs tools`,
  );
}

function missingOf(wanted: readonly Wanted[]): readonly Wanted[] {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own format
  const format = '${Package} ${db:Status-Status}\n';
  const { stdout } = spawnSync('dpkg-query', ['--show', '--showformat', format, ...wanted.map(w => w.package)], {
    encoding: 'utf8',
  });
  const installed = new Set(
    stdout
      .split('\n')
      .filter(line => line.endsWith(' installed'))
      .map(line => line.split(' ')[0]),
  );
  return wanted.filter(w => !installed.has(w.package));
}

function listText(distribution: Distribution, wanted: readonly Wanted[], missing: readonly Wanted[]): string {
  const width = Math.max(...wanted.map(w => w.package.length));
  const lines = wanted.map(w => {
    const there = !missing.includes(w);
    const mark = styleText(there ? 'green' : 'yellow', there ? 'there  ' : 'missing', { stream: process.stdout });
    return `  ${mark}  ${w.package.padEnd(width)}  ${w.why}`;
  });
  return [`${distribution.name}, packages that are needed:`, ...lines].join('\n');
}

function install(names: readonly string[]): void {
  console.log(`Installing ${names.join(' ')} (their services are not started)`);
  using _ = noServiceStarts();
  if (apt(['install', ...names]) === 0) return;
  // The lists may be old, or not be there at all.
  if (apt(['update']) !== 0) throw new SetupError('Cannot install packages: apt-get update failed, see above');
  if (apt(['install', ...names]) !== 0)
    throw new SetupError('Cannot install packages: apt-get install failed, see above');
}

function apt(args: readonly string[]): number {
  const options = ['-q', '-y', '--no-install-recommends', '-o', 'Dpkg::Options::=--force-confold'];
  const { status } = spawnSync('apt-get', [...options, ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', NEEDRESTART_MODE: 'l' },
    stdio: ['ignore', process.env['SHIFTVOL_SETUP_VERBOSE'] ? 'inherit' : 'ignore', 'inherit'],
  });
  return status ?? 1;
}

/** A RabbitMQ or LXD of the system's is not what is wanted here: ours are private. One that is there already is left as it is. */
function noServiceStarts(policy = POLICY): Disposable {
  if (existsSync(policy)) return { [Symbol.dispose]() {} };
  writeFileSync(policy, POLICY_TEXT, { mode: 0o755 });
  return { [Symbol.dispose]: () => rmSync(policy, { force: true }) };
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { check: { type: 'boolean' }, for: { type: 'string', default: 'test' } } });
  try {
    const purpose = PURPOSES.find(p => p === values.for);
    if (purpose === undefined)
      throw new SetupError(`Cannot set up for "${values.for}": ${PURPOSES.join(', ')} are accepted`);
    ensurePackages(purpose, { check: values.check ?? false });
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
