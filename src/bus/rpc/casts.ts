/** Calls of our own to agents of other hosts that nobody answers: oslo.messaging's casts. */
import { ShiftvolError } from '../../errors.ts';
import type { BusChannel } from '../channel.ts';
import { encode } from '../envelope.ts';
import type { RpcQueues } from './queues.ts';

export type Cast = {
  readonly namespace: string;
  readonly version: string;
  readonly method: string;
  readonly args: Readonly<Record<string, unknown>>;
};

export class Casts {
  readonly #exchange: string;
  readonly #topic: string;
  #channel: BusChannel | undefined;

  constructor({ exchange, shared }: Pick<RpcQueues, 'exchange' | 'shared'>) {
    this.#exchange = exchange;
    this.#topic = shared.key;
  }

  use(channel: BusChannel): void {
    this.#channel = channel;
  }

  /** Resolves when it waits in the host's queue. @throws UnroutableError: it has none; SV_BUS: there is no connection now */
  async send(host: string, cast: Cast): Promise<void> {
    const channel = this.#channel;
    if (!channel) throw new ShiftvolError('SV_BUS', `Cannot tell host "${host}": there is no connection to the broker`);
    const message = { ...cast, _unique_id: crypto.randomUUID().replaceAll('-', '') };
    const { content, ...properties } = encode(message);
    const key = `${this.#topic}.${host}`;
    await channel.publish(this.#exchange, key, content, { ...properties, persistent: false }, { mandatory: true });
  }
}
