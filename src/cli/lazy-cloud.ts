/** The cloud that the configuration names, for parts that may never need one: loaded, and logged in to, with the first request. */
import type { Config } from '../config/schema.ts';
import { isError } from '../errors.ts';
import type { Log } from '../log/log.ts';
import type { Cinder } from '../openstack/cinder.ts';
import type { CloudSession } from '../openstack/session.ts';

export class LazyCloud implements Disposable {
  readonly #config: Pick<Config, 'openstack'>;
  readonly #log: Log | undefined;
  #session: CloudSession | undefined;

  constructor(config: Pick<Config, 'openstack'>, log: Log | undefined) {
    this.#config = config;
    this.#log = log;
  }

  /** @throws SV_CONFIG: there is no cloud, or it is not described rightly */
  async session(): Promise<CloudSession> {
    const { openCloud } = await import('../openstack/open.ts');
    this.#session ??= openCloud(this.#config.openstack, { log: this.#log });
    return this.#session;
  }

  async cinder(): Promise<Cinder> {
    const [{ Cinder }, session] = await Promise.all([import('../openstack/cinder.ts'), this.session()]);
    return new Cinder(session);
  }

  /** Whether there is one to be asked at all. */
  async isConfigured(): Promise<boolean> {
    try {
      await this.session();
      return true;
    } catch (error) {
      if (isError(error, 'SV_CONFIG')) return false;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#session?.[Symbol.dispose]();
    this.#session = undefined;
  }
}
