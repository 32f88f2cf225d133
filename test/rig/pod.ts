/**
 * Containers of a rendered pod, run by a real OCI runtime without Kubernetes: config.json is made from the manifest as containerd makes it
 * (capabilities, seccomp, mounts and their propagation, masked paths, devices), so that what the chart says is what is tried. Needs root.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMapping, type Manifest, type Mapping } from './manifests.ts';
import { runtimeDefault } from './seccomp.ts';

export type PodOptions = {
  readonly rootfs: string;
  /** A DaemonSet, Deployment or Pod. */
  readonly manifest: Manifest;
  /** Content of ConfigMaps and Secrets by name and key. */
  readonly objects: Readonly<Record<string, Readonly<Record<string, string>>>>;
};
export type ContainerOptions = {
  readonly args?: readonly string[];
  /** Capabilities that it does not get, as in the manifest: SYS_ADMIN. */
  readonly without?: readonly string[];
  /** false: no device but those that every container has. Kubernetes gives others to privileged pods, or through plugins. */
  readonly devices?: boolean;
};
export type Ended = { readonly status: number | null; readonly stdout: string; readonly stderr: string };

/** What every container has: null, zero, full, tty, random, urandom, the consoles and terminals. */
const USUAL_DEVICES = ['1:3', '1:5', '1:7', '1:8', '1:9', '5:0', '5:1', '5:2', '136:*'];
const MASKED = ['acpi', 'asound', 'kcore', 'keys', 'latency_stats', 'timer_list', 'timer_stats', 'sched_debug', 'scsi'];
const READ_ONLY = ['bus', 'fs', 'irq', 'sys', 'sysrq-trigger'];
const PROPAGATION = { Bidirectional: 'rshared', HostToContainer: 'rslave', None: 'rprivate' } as const;

/** What this machine's root has: a runtime cannot give more. */
export function ownCapabilities(): readonly string[] {
  const [, bits = '0'] = /^CapPrm:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return CAPABILITIES.filter((_, bit) => ((BigInt(`0x${bits}`) >> BigInt(bit)) & 1n) === 1n);
}

export class Pod implements Disposable {
  readonly #dir = mkdtempSync(join(tmpdir(), 'shiftvol-pod-'));
  readonly #options: PodOptions;
  readonly #spec: Mapping;
  #made = 0;

  constructor(options: PodOptions) {
    this.#options = options;
    const { manifest } = options;
    const spec = manifest.kind === 'Pod' ? manifest['spec'] : path(manifest, 'spec', 'template', 'spec');
    if (!isMapping(spec)) throw new Error(`${manifest.kind} has no pod`);
    this.#spec = spec;
  }

  /** Those that the manifest adds, sorted. */
  capabilities(name: string): readonly string[] {
    return strings(path(this.#container(name), 'securityContext', 'capabilities', 'add')).toSorted();
  }

  /** Runs a container to its end. */
  run(name: string, options: ContainerOptions = {}): Ended {
    const { id, bundle } = this.#bundle(name, options);
    return this.#runc(['run', '--bundle', bundle, id]);
  }

  start(name: string, options: ContainerOptions = {}): RunningContainer {
    const { id, bundle } = this.#bundle(name, options);
    const process = spawn('runc', [...this.#global, 'run', '--bundle', bundle, id], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return new RunningContainer(process, (...args) => this.#runc(args), id);
  }

  [Symbol.dispose](): void {
    rmSync(this.#dir, { recursive: true });
  }

  get #global(): readonly string[] {
    return ['--root', join(this.#dir, 'state')];
  }

  #runc(args: readonly string[]): Ended {
    const { status, stdout, stderr, error } = spawnSync('runc', [...this.#global, ...args], { encoding: 'utf8' });
    if (error) throw error;
    return { status, stdout, stderr };
  }

  #bundle(name: string, options: ContainerOptions): { id: string; bundle: string } {
    const id = `shiftvol-test-${process.pid}-${this.#made++}`;
    const bundle = join(this.#dir, id);
    mkdirSync(bundle);
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(this.#config(name, options, id), null, 1));
    return { id, bundle };
  }

  #container(name: string): Mapping {
    const all = [...list(this.#spec['initContainers']), ...list(this.#spec['containers'])];
    const container = all.find(c => c['name'] === name);
    if (!container) throw new Error(`The pod has no container "${name}"`);
    return container;
  }

  #config(name: string, options: ContainerOptions, id: string): object {
    const container = this.#container(name);
    const security = mapping(container['securityContext']);
    const privileged = security['privileged'] === true;
    const asked = privileged ? CAPABILITIES : strings(path(security, 'capabilities', 'add')).map(c => `CAP_${c}`);
    const lacking = (options.without ?? []).map(c => `CAP_${c}`);
    const capabilities = asked.filter(c => !lacking.includes(c) && ownCapabilities().includes(c));
    const held = security['runAsUser'] === 0 ? capabilities : [];
    return {
      ociVersion: '1.0.2',
      hostname: 'pod',
      root: { path: this.#options.rootfs, readonly: security['readOnlyRootFilesystem'] === true },
      process: {
        user: { uid: Number(security['runAsUser']), gid: Number(security['runAsGroup']) },
        cwd: '/',
        args: [...strings(container['command']), ...(options.args ?? strings(container['args']))],
        env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...this.#env(container)],
        capabilities: { bounding: capabilities, effective: held, permitted: held, inheritable: [], ambient: [] },
        noNewPrivileges: security['allowPrivilegeEscalation'] === false,
      },
      mounts: [...SYSTEM_MOUNTS, ...this.#mounts(container)].toSorted(outerFirst),
      linux: {
        cgroupsPath: `/${id}`,
        namespaces: this.#namespaces(),
        rootfsPropagation: this.#propagates(container) ? 'rshared' : 'rprivate',
        resources: { devices: options.devices === false ? allowed(USUAL_DEVICES) : [{ allow: true, access: 'rwm' }] },
        ...(privileged
          ? {}
          : {
              maskedPaths: [...MASKED.map(p => `/proc/${p}`), '/sys/firmware'],
              readonlyPaths: READ_ONLY.map(p => `/proc/${p}`),
            }),
        ...(path(security, 'seccompProfile', 'type') === 'RuntimeDefault'
          ? { seccomp: runtimeDefault(capabilities) }
          : {}),
      },
    };
  }

  #namespaces(): readonly object[] {
    const own = ['mount', 'ipc'];
    if (this.#spec['hostPID'] !== true) own.push('pid');
    if (this.#spec['hostNetwork'] !== true) own.push('network');
    own.push('uts');
    return own.map(type => ({ type }));
  }

  #propagates(container: Mapping): boolean {
    return list(container['volumeMounts']).some(m => m['mountPropagation'] === 'Bidirectional');
  }

  #env(container: Mapping): readonly string[] {
    return list(container['env']).map(entry => {
      const { name, value, valueFrom } = entry;
      if (typeof value === 'string') return `${name}=${value}`;
      const secret = mapping(path(valueFrom, 'secretKeyRef'));
      const known = this.#options.objects[String(secret['name'])]?.[String(secret['key'])];
      return `${name}=${known ?? 'node1'}`;
    });
  }

  #mounts(container: Mapping): readonly OciMount[] {
    const volumes = list(this.#spec['volumes']);
    return list(container['volumeMounts']).map(mount => {
      const volume = volumes.find(v => v['name'] === mount['name']);
      if (!volume) throw new Error(`No volume "${mount['name']}"`);
      const wanted = String(mount['mountPropagation'] ?? 'None');
      const propagation = Object.entries(PROPAGATION).find(([name]) => name === wanted)?.[1] ?? 'rprivate';
      return {
        destination: String(mount['mountPath']),
        type: 'bind',
        source: this.#source(volume),
        options: ['rbind', propagation, mount['readOnly'] === true ? 'ro' : 'rw'],
      };
    });
  }

  /** Where a volume is on this host: the kubelet's part. */
  #source(volume: Mapping): string {
    const hostPath = mapping(volume['hostPath']);
    if (typeof hostPath['path'] === 'string') {
      if (hostPath['type'] === 'DirectoryOrCreate') mkdirSync(hostPath['path'], { recursive: true });
      return hostPath['path'];
    }
    const dir = join(this.#dir, `volume-${volume['name']}`);
    mkdirSync(dir, { recursive: true });
    chmodSync(dir, 0o777); // as the kubelet makes them, whatever the umask
    const object = path(volume, 'configMap', 'name') ?? path(volume, 'secret', 'secretName');
    for (const [key, text] of Object.entries(this.#options.objects[String(object)] ?? {}))
      writeFileSync(join(dir, key), text, { mode: 0o444 });
    return dir;
  }
}

export class RunningContainer {
  readonly #process: ChildProcess;
  readonly #runc: (...args: readonly string[]) => Ended;
  readonly #id: string;
  readonly #ended: Promise<number | null>;
  #output = '';

  constructor(process: ChildProcess, runc: (...args: readonly string[]) => Ended, id: string) {
    this.#process = process;
    this.#runc = runc;
    this.#id = id;
    this.#ended = new Promise(resolve => process.once('close', resolve));
    for (const stream of [process.stdout, process.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text;
      });
  }

  /** All that it wrote. */
  get output(): string {
    return this.#output;
  }

  get running(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** As the kubelet's probes do it. */
  exec(argv: readonly string[]): Ended {
    return this.#runc('exec', this.#id, ...argv);
  }

  /** What the end of a pod is: the signal, and the end of its mount namespace. */
  async stop(signal: 'TERM' | 'KILL' = 'TERM'): Promise<void> {
    if (this.running) this.#runc('kill', this.#id, signal);
    await this.#ended;
    this.#runc('delete', '--force', this.#id);
  }
}

type OciMount = {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
};
const SYSTEM_MOUNTS: readonly OciMount[] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
];

/** As containerd sorts them: what lies below another mount must not be hidden by it. */
const outerFirst = (a: OciMount, b: OciMount) => a.destination.split('/').length - b.destination.split('/').length;

const allowed = (devices: readonly string[]) => [
  { allow: false, access: 'rwm' },
  ...devices.map(device => {
    const [major, minor] = device.split(':');
    return {
      allow: true,
      type: 'c',
      major: Number(major),
      ...(minor === '*' ? {} : { minor: Number(minor) }),
      access: 'rwm',
    };
  }),
];

function path(value: unknown, ...keys: readonly string[]): unknown {
  let found = value;
  for (const key of keys) found = isMapping(found) ? found[key] : undefined;
  return found;
}
const mapping = (value: unknown): Mapping => (isMapping(value) ? value : {});
const list = (value: unknown): readonly Mapping[] => (Array.isArray(value) ? value.filter(isMapping) : []);
const strings = (value: unknown): readonly string[] => (Array.isArray(value) ? value.map(String) : []);

/** By their bits. @see capabilities(7) */
const CAPABILITIES = (
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST ' +
  'NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE ' +
  'SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG ' +
  'WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'
)
  .split(' ')
  .map(name => `CAP_${name}`);
