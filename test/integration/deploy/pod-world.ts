/** A host of a cluster, as far as the agent's pod sees it: directories that share their mounts, LXD, the image, the rendered manifest. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { helm } from '../../rig/helm.ts';
import { type Lxd, startLxd } from '../../rig/lxd.ts';
import { isMapping, type Manifest, parseManifests } from '../../rig/manifests.ts';
import { buildImage, type OciImage } from '../../rig/oci-image.ts';
import { type ContainerOptions, type Ended, Pod, type RunningContainer } from '../../rig/pod.ts';

const CHART = fileURLToPath(new URL('../../../deploy/helm/shiftvol', import.meta.url));
const SHIFTVOL = '/usr/bin/shiftvol';
export type Access = 'privileged' | 'plugin';

export class PodWorld implements AsyncDisposable {
  readonly dir: string;
  readonly image: OciImage;
  readonly lxd: Lxd;
  readonly #pods = new Map<string, Pod>();

  constructor(dir: string, image: OciImage, lxd: Lxd) {
    this.dir = dir;
    this.image = image;
    this.lxd = lxd;
  }

  get stateDir(): string {
    return join(this.dir, 'state');
  }

  /** The rendered DaemonSet's pod. */
  pod(access: Access = 'plugin'): Pod {
    return this.#pod(access, 'DaemonSet', { 'agent.access': access, 'agent.deviceResource': 'example.org/block' });
  }

  /** Of the routers, or of the test hook: with this transport URL. */
  unprivileged(kind: 'Deployment' | 'Pod', url: string): Pod {
    return this.#pod(kind, kind, { 'router.enabled': 'true', 'transport.url': url, 'router.log': 'text' });
  }

  #pod(name: string, kind: string, more: Readonly<Record<string, string>>): Pod {
    const there = this.#pods.get(name);
    if (there) return there;
    const values = {
      'agent.paths.run': join(this.dir, 'run'),
      'agent.paths.state': this.stateDir,
      'agent.runtime.socketDir': this.lxd.dir,
      'agent.log': 'text',
      ...more,
    };
    const set = Object.entries(values).map(([key, value]) => `${key}=${value}`);
    const { status, stdout, stderr } = helm('4.1.4').run('template', 'sv', CHART, '--set', set.join(','));
    assert.equal(status, 0, stderr);
    const manifests = parseManifests(stdout);
    const manifest = manifests.find(m => m.kind === kind);
    assert.ok(manifest);
    const pod = new Pod({
      rootfs: this.image.rootfs,
      manifest,
      objects: Object.fromEntries(manifests.flatMap(contents)),
    });
    this.#pods.set(name, pod);
    return pod;
  }

  /** An agent, once the rendered probe's command says that it lives. */
  async agent(options: ContainerOptions = {}, access: Access = 'plugin'): Promise<Agent> {
    const agent = new Agent(this.pod(access).start('agent', options));
    for (let attempt = 0; attempt < 100 && agent.container.running; attempt++) {
      if (agent.ask('health').status === 0) return agent;
      await sleep(200);
    }
    await agent.stop();
    throw new Error(`The agent did not come up: ${agent.container.output}`);
  }

  /** Mount points below the world's directory in our own namespace, which is the host's. */
  mounts(): readonly string[] {
    const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
    return lines.map(line => line.split(' ')[4] ?? '').filter(point => point.startsWith(`${this.dir}/`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lxd[Symbol.asyncDispose]();
    for (const pod of this.#pods.values()) pod[Symbol.dispose]();
    for (const point of this.mounts().toReversed()) execFileSync('umount', [point]);
    execFileSync('umount', [this.dir]);
    rmSync(this.dir, { recursive: true });
    this.image[Symbol.dispose]();
  }
}

/** Name, and content by key, of a ConfigMap or Secret. */
function contents(manifest: Manifest): readonly (readonly [string, Readonly<Record<string, string>>])[] {
  const data = manifest['data'] ?? manifest['stringData'];
  if (!isMapping(data) || !isMapping(manifest['metadata'])) return [];
  const texts = Object.fromEntries(Object.entries(data).map(([key, text]) => [key, String(text)]));
  return [[String(manifest['metadata']['name']), texts]];
}

export class Agent {
  readonly container: RunningContainer;
  constructor(container: RunningContainer) {
    this.container = container;
  }

  ask(...words: readonly string[]): Ended {
    return this.container.exec([SHIFTVOL, ...words]);
  }

  /** @throws it ended with another status than 0 */
  do(...words: readonly string[]): string {
    const { status, stdout, stderr } = this.ask(...words);
    assert.equal(status, 0, `${words.join(' ')}: ${stderr}`);
    return stdout;
  }

  stop(signal?: 'TERM' | 'KILL'): Promise<void> {
    return this.container.stop(signal);
  }
}

/** With a container "c1", a pool, and a tree at `stateDir`/tree with owners, setuid and a file capability. */
export async function makePodWorld(): Promise<PodWorld> {
  const image = buildImage();
  const dir = mkdtempSync('/tmp/svpod-');
  chmodSync(dir, 0o711);
  // As systemd makes all of a host; elsewhere, without it, Bidirectional would go nowhere.
  execFileSync('mount', ['--bind', dir, dir]);
  execFileSync('mount', ['--make-rshared', dir]);
  let world: PodWorld | undefined;
  try {
    world = new PodWorld(dir, image, await startLxd());
    await world.lxd.launch('c1');
    makeTree(join(world.stateDir, 'tree'));
    const { status, stderr } = world.pod().run('agent', { args: ['pool', 'create', '--size', '4G'] });
    assert.equal(status, 0, stderr);
    return world;
  } catch (error) {
    if (world) await world[Symbol.asyncDispose]();
    else {
      execFileSync('umount', [dir]);
      rmdirSync(dir);
      image[Symbol.dispose]();
    }
    throw error;
  }
}

function makeTree(dir: string): void {
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'hello'), 'hello\n');
  execFileSync('chown', ['1000:1000', join(dir, 'hello')]);
  chmodSync(join(dir, 'hello'), 0o6755);
  writeFileSync(join(dir, 'capable'), '');
  execFileSync('setcap', ['cap_net_raw+ep', join(dir, 'capable')]);
}
