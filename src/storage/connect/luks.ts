/** LUKS between a volume and what is mounted, by cryptsetup. A passphrase goes to its stdin, and nowhere else. */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import type { Connection } from '../../engine/model.ts';
import type { ImageRef } from '../../engine/ports.ts';
import { startTool } from '../tool.ts';
import { isBlank } from './blank.ts';
import { type ConnectEnv, cannotConnect } from './connector.ts';
import { isReady } from './ready.ts';
import { attribute, deviceSize, entries, mapperOf } from './sysfs.ts';
import { requireUnused } from './unused.ts';
import { waitFor } from './wait.ts';

const OPEN_MS = 120_000;
const DEVICE_MS = 10_000;
/** @see cryptsetup(8), return codes */
const WRONG_PARAMETERS = 1;
const NO_PERMISSION = 2;
/** In the label of a header until the first file system behind it is complete: only then is what is there worth anything. */
const FRESH = 'shiftvol-fresh';

export type OpenLuks = {
  readonly passphrase: () => Promise<string>;
  /** Make a header where the volume is blank. */
  readonly format: boolean;
  readonly signal?: AbortSignal | undefined;
};

export class Luks {
  readonly #env: ConnectEnv;

  constructor(env: ConnectEnv) {
    this.#env = env;
  }

  /** The open mapping of this volume. */
  find(connection: Connection): string | undefined {
    const found = mapperOf(this.#env.sysRoot, { name: mappingName(connection), uuid: 'CRYPT-' });
    return found?.device;
  }

  /** Opens the volume; open already is success. `fresh`: nothing was ever completed behind this header. */
  async open(
    connection: Connection,
    image: ImageRef,
    { passphrase, format, signal }: OpenLuks,
  ): Promise<{ readonly device: string; readonly fresh: boolean }> {
    const existing = this.find(connection);
    if (existing !== undefined) {
      this.#requireOn(connection, existing, image);
      return { device: existing, fresh: false };
    }
    const isLuks = (await this.#run(['isLuks', image.path], { signal, accept: [WRONG_PARAMETERS] })).status === 0;
    if (!isLuks) await this.#format(connection, image, { passphrase, format, signal });
    const args = [
      '--type',
      'luks',
      ...(connection.readOnly ? ['--readonly'] : []),
      '--disable-keyring',
      '--key-file',
      '-',
    ];
    const { status } = await this.#run(['open', ...args, image.path, mappingName(connection)], {
      input: await passphrase(),
      signal,
      accept: [NO_PERMISSION],
    });
    if (status === NO_PERMISSION) throw cannotConnect(connection, 'its key does not open it');
    const what = `the mapping of volume "${connection.name}"`;
    const ready = async (): Promise<string | undefined> => {
      const mapping = this.find(connection);
      return mapping !== undefined && (await isReady(this.#env.sysRoot, mapping)) ? mapping : undefined;
    };
    const device = await waitFor(ready, { timeoutMs: DEVICE_MS, signal, what });
    return { device, fresh: await this.#isFresh(image, signal) };
  }

  /** The first file system is complete: from now on what is there is somebody's. */
  async settle(image: ImageRef, signal: AbortSignal | undefined): Promise<void> {
    if (await this.#isFresh(image, signal)) await this.#run(['config', '--label', '', image.path], { signal });
  }

  async close(connection: Connection, signal: AbortSignal | undefined): Promise<void> {
    const device = this.find(connection);
    if (device === undefined) return;
    await requireUnused(connection, device);
    await this.#run(['close', mappingName(connection)], { signal });
  }

  /** With `--disable-keyring` at its opening the kernel can be told of the size without the key. */
  async resize(connection: Connection, signal: AbortSignal | undefined): Promise<void> {
    if (this.find(connection) !== undefined) await this.#run(['resize', mappingName(connection)], { signal });
  }

  async #format(connection: Connection, image: ImageRef, { passphrase, format, signal }: OpenLuks): Promise<void> {
    if (!format || connection.readOnly || !(await isBlank(image.path, signal)))
      throw cannotConnect(
        connection,
        'it is said to be encrypted and has no LUKS header',
        undefined,
        'volumes.make_filesystem makes one on a volume that is blank',
      );
    const { provider, cipher, keySizeBits } = connection.encryption ?? { provider: 'luks2' };
    const version = provider === 'luks2' ? 'luks2' : 'luks1';
    const options = [
      ...(cipher === undefined ? [] : ['--cipher', cipher]),
      ...(keySizeBits === undefined ? [] : ['--key-size', String(keySizeBits)]),
      // Only LUKS2 has labels; what a crash leaves on a LUKS1 volume is to be wiped by hand.
      ...(version === 'luks2' ? ['--label', FRESH] : []),
    ];
    const args = ['luksFormat', '--batch-mode', '--type', version, ...options, '--key-file', '-', image.path];
    await this.#run(args, { input: await passphrase(), signal });
  }

  async #isFresh(image: ImageRef, signal: AbortSignal | undefined): Promise<boolean> {
    const { stdout } = await this.#run(['luksDump', image.path], { signal });
    return new RegExp(`^Label:\\s*${FRESH}$`, 'm').test(stdout);
  }

  /** A mapping that a crash left may stand on a device that has become another volume. @throws SV_CONNECTION */
  #requireOn(connection: Connection, mapping: string, image: ImageRef): void {
    const { sysRoot } = this.#env;
    const below = entries(sysRoot, 'class/block', basename(mapping), 'slaves');
    const own = below.some(name =>
      image.kind === 'device'
        ? name === basename(image.path)
        : attribute(sysRoot, 'class/block', name, 'loop/backing_file') === image.path,
    );
    if (own && deviceSize(sysRoot, mapping) > 0) return;
    throw cannotConnect(connection, `${mapping} is open on ${below.join(', ') || 'nothing'}, not on ${image.path}`);
  }

  async #run(
    args: readonly string[],
    options: { input?: string; signal?: AbortSignal | undefined; accept?: readonly number[] },
  ): Promise<{ readonly status: number; readonly stdout: string }> {
    const { input, signal, accept = [] } = options;
    const deadline = AbortSignal.any([AbortSignal.timeout(OPEN_MS), ...(signal ? [signal] : [])]);
    const tool = startTool('cryptsetup', args, {
      signal: deadline,
      accept: [0, ...accept],
      input: input !== undefined,
    });
    tool.stdin?.end(input);
    return await tool.done;
  }
}

/** Stable, and not readable as anything else's name. */
function mappingName({ name }: Connection): string {
  return `shiftvol-${createHash('sha256').update(name).digest('hex').slice(0, 16)}`;
}
