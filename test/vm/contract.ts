/** What every connector must do, whatever lies behind it: a service's test is a fixture and one call. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Connection } from '../../src/engine/model.ts';
import type { ImageRef } from '../../src/engine/ports.ts';
import type { Secrets } from '../../src/engine/secrets.ts';
import type { Connections } from '../../src/engine/volume-ports.ts';
import { isError } from '../../src/errors.ts';
import { bothKinds } from '../../src/idmap/compose.ts';
import { KernelMounter } from '../../src/mount/mounter.ts';
import { type ConnectionsOptions, makeConnections } from '../../src/storage/connect/connections.ts';
import { otherNamespace, PATIENCE_MS, requireMachine, SCRATCH, say } from './guest.ts';
import { killAgent, recoverAgent } from './killed-agent.ts';

export type Volume = {
  readonly connection: Connection;
  readonly secrets?: Secrets;
  readonly sizeBytes: number;
  /** The service makes it larger. */
  grow(sizeBytes: number): void;
  /** What is here of it when it was let go: nothing, unless it is on this host anyway. */
  readonly afterwards?: ImageRef;
  /** The same service, asked for a volume that it does not have. */
  readonly missing: Connection;
};

export type Service = {
  /** Starts it. Once. */
  start(): void | Promise<void>;
  /** A new blank volume. */
  volume(name: string): Volume;
  /** What of it this host has: sessions, records, mounts, processes. Before and after every test the same. */
  traces(): readonly string[];
};

export const MiB = 2 ** 20;
const HOST_BASE = 200_000;

type Options = Omit<ConnectionsOptions, 'runDir'> & {
  /** Default: true. Else the service can only make larger what nobody uses. */
  readonly growsInUse?: boolean;
};

export function connectorContract(
  name: string,
  service: Service,
  { growsInUse = true, ...options }: Options = {},
): void {
  describe(name, { concurrency: 1, timeout: PATIENCE_MS }, () => {
    let runDir: string;
    let clean: readonly string[];
    const connections = (more: Partial<ConnectionsOptions> = {}): Connections =>
      makeConnections({ runDir, localPaths: ['/dev', SCRATCH], ...options, ...more });

    before(async () => {
      requireMachine();
      runDir = mkdtempSync(join(tmpdir(), 'shiftvol-vm-'));
      await service.start();
      clean = service.traces();
    });
    after(() => rmSync(runDir, { recursive: true, force: true }));

    const assertClean = () => assert.deepEqual(service.traces(), clean);

    test('a volume is connected, mounted with a map, let go, and has its data when it comes again', async t => {
      const { connection, secrets, sizeBytes, afterwards } = service.volume('life');
      const asked = secrets ? { secrets } : {};
      const began = performance.now();
      const image = await connections({ makeFilesystem: 'ext4' }).connect(connection, asked);
      say(t, 'connect and mkfs', began);
      assert.equal(sizeOf(image) > 0 ? sizeOf(image) : sizeBytes, sizeBytes);
      await mounted(runDir, image, dir => {
        writeInside(dir);
        assert.equal(statSync(dir).uid, HOST_BASE);
      });
      assert.deepEqual(await connections().find(connection), image);

      const letGo = performance.now();
      await connections().disconnect(connection, {});
      say(t, 'disconnect', letGo);
      assert.deepEqual(await connections().find(connection), afterwards);
      await connections().disconnect(connection, {});
      assertClean();

      const again = performance.now();
      const second = await connections({ makeFilesystem: 'ext4' }).connect(connection, asked);
      say(t, 'connect again', again);
      await mounted(runDir, second, dir => assert.equal(readFileSync(join(dir, 'file'), 'utf8'), 'data'));
      await connections().disconnect(connection, {});
      assertClean();
    });

    test('a volume that is for reading only is one', async () => {
      const { connection, secrets } = service.volume('read');
      const asked = secrets ? { secrets } : {};
      await connections({ makeFilesystem: 'ext4' }).connect(connection, asked);
      await connections().disconnect(connection, {});

      const readOnly = { ...connection, readOnly: true };
      const image = await connections().connect(readOnly, asked);
      await mounted(runDir, image, dir => assert.throws(() => writeInside(dir), /Read-only file system/), true);
      await connections().disconnect(readOnly, {});
      assertClean();
    });

    test('connected twice, also by another process, is connected once', async () => {
      const { connection, secrets } = service.volume('twice');
      const asked = secrets ? { secrets } : {};
      const here = connections();
      const first = await here.connect(connection, asked);
      assert.deepEqual(await here.connect(connection, asked), first);
      assert.deepEqual(await connections().connect(connection, asked), first);

      await connections().disconnect(connection, {});
      assertClean();
    });

    test('a volume in use is not let go, and goes on working', async () => {
      const { connection, secrets } = service.volume('busy');
      const here = connections({ makeFilesystem: 'ext4' });
      const image = await here.connect(connection, secrets ? { secrets } : {});
      await mounted(runDir, image, async dir => {
        if (image.kind === 'device')
          await assert.rejects(connections().disconnect(connection, {}), e => isError(e, 'SV_BUSY'));
        else await connections().disconnect(connection, {});
        writeInside(dir);
        assert.deepEqual(await here.connect(connection, secrets ? { secrets } : {}), image);
      });
      await here.disconnect(connection, {});
      await connections().disconnect(connection, {});
      assertClean();
    });

    test('a volume that the service made larger is larger here', async () => {
      const { connection, secrets, sizeBytes, grow } = service.volume('grown');
      const here = connections();
      await here.connect(connection, secrets ? { secrets } : {});
      if (growsInUse) {
        grow(sizeBytes * 2);
        assert.equal(await here.extend(connection), sizeBytes * 2);
      }
      await here.disconnect(connection, {});
      if (!growsInUse) grow(sizeBytes * 2);
      await here.connect(connection, secrets ? { secrets } : {});
      assert.equal(await here.extend(connection), sizeBytes * 2);
      await here.disconnect(connection, {});
      assertClean();
    });

    if (growsInUse)
      test('whoever has it mounted, a container in a mount namespace of its own too, sees its new size at once', async t => {
        const { connection, secrets, sizeBytes, grow } = service.volume('mounted');
        const here = connections({ makeFilesystem: 'ext4' });
        const image = await here.connect(connection, secrets ? { secrets } : {});
        await mounted(runDir, image, async (dir, mounter) => {
          await using other = otherNamespace(dir);
          const before = await other.sizeBytes();
          grow(sizeBytes * 2);

          const began = performance.now();
          const found = await here.extend(connection);
          assert.equal(image.kind === 'file' ? await mounter.enlarge(image, found) : found, sizeBytes * 2);
          assert.equal((await mounter.grow(dir, 'ext4')).sizeBytes, sizeBytes * 2);
          say(t, 'extend', began);

          const after = await other.sizeBytes();
          assert.ok(before < sizeBytes && after > sizeBytes * 1.5, `${before} bytes have become ${after}`);
          writeInside(dir);
        });
        await here.disconnect(connection, {});
        assertClean();
      });

    test('what an agent leaves that is killed while it connects, or when it has connected, goes with recover', async t => {
      for (const when of ['connected', 'some time'] as const) {
        const { connection, secrets } = service.volume(`killed-${when.replace(' ', '-')}`);
        const stateDir = mkdtempSync(join(runDir, 'state-'));
        const agent = { stateDir, runDir, multipath: options.multipath ?? false, localPaths: ['/dev', SCRATCH] };
        const afterMs = await killAgent(agent, { connection, secrets, when });

        const did = await recoverAgent(agent);
        assert.ok(did.length <= 1 && did.every(one => one === 'undone'), did.join());
        assert.deepEqual(await recoverAgent(agent), []);
        assertClean();
        t.diagnostic(
          `killed when it had connected, or ${afterMs} ms after it began: ${did.join() || 'nothing was begun'}`,
        );
      }
    });

    test('two volumes at once, let go one after the other', async () => {
      const volumes = ['one', 'two'].map(each => service.volume(each));
      const here = connections({ makeFilesystem: 'ext4' });
      const images = await Promise.all(
        volumes.map(({ connection, secrets }) => here.connect(connection, secrets ? { secrets } : {})),
      );
      const [first, second] = images;
      assert.ok(first && second);
      assert.notEqual(first.path, second.path);
      await mounted(runDir, second, async () => {
        const [one] = volumes;
        if (one) await here.disconnect(one.connection, {});
        assert.deepEqual(await here.find(volumes[1]?.connection ?? volumeless()), second);
      });
      for (const { connection } of volumes) await here.disconnect(connection, {});
      assertClean();
    });

    test('a volume that the service does not have is an error, and leaves nothing', async () => {
      const { missing, secrets } = service.volume('there');
      await assert.rejects(
        connections().connect(missing, { ...(secrets && { secrets }), signal: AbortSignal.timeout(10_000) }),
      );
      await connections().disconnect(missing, {});
      assertClean();
    });
  });
}

const volumeless = (): never => assert.fail('there are two volumes');

function sizeOf(image: ImageRef): number {
  return image.kind === 'file' ? statSync(image.path).size : 0;
}

/** As the container's root: the host's own has no id there. */
function writeInside(dir: string): void {
  execFileSync('tee', [join(dir, 'file')], {
    input: 'data',
    uid: HOST_BASE,
    gid: HOST_BASE,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
}

/** Mounted by the mounter of the product itself, as a container would have it. */
async function mounted(
  runDir: string,
  image: ImageRef,
  use: (dir: string, mounter: KernelMounter) => void | Promise<void>,
  readOnly = false,
): Promise<void> {
  await using mounter = new KernelMounter();
  const path = join(runDir, 'volumes', 'm');
  mkdirSync(join(runDir, 'volumes'), { recursive: true });
  chmodSync(runDir, 0o711);
  const idmap = bothKinds(0, HOST_BASE, 65_536);
  const range = [{ start: HOST_BASE, count: 65_536 }];
  {
    await using device = await mounter.openDevice(image, { readOnly });
    const within = { uid: range, gid: range };
    await mounter.mount(device, { path, idmap, within, idBase: 0, readOnly, role: 'volume' });
  }
  try {
    await use(path, mounter);
  } finally {
    await mounter.unmount(path, { lazy: false });
    await mounter.released(image, { timeoutMs: 10_000 });
  }
}
