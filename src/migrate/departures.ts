/** Which instances are on their way here, and since when they are down: told by the host that they leave, for a live migration of Nova. */
import * as z from 'zod';
import { explain, ShiftvolError } from '../errors.ts';
import type { Peers } from './peers.ts';

/** A host that tells more of them than ever move at once has nothing good in mind. */
const MOST = 1000;
const text = z.string().min(1).max(255);
const departureShape = z.strictObject({ instance: text, source: text, downSince: z.int().positive() });
export type Departure = z.infer<typeof departureShape>;

export class Departures {
  readonly #peers: Peers;
  readonly #log: { warn(text: string, facts?: object): void };
  readonly #known = new Map<string, Departure>();

  constructor(peers: Peers, log: { warn(text: string, facts?: object): void }) {
    this.#peers = peers;
    this.#log = log;
  }

  /** Never rejects. */
  async tell(destination: string, departure: Departure): Promise<void> {
    try {
      await this.#peers.tell(destination, 'instance_leaves', departure);
    } catch (error) {
      const facts = { instance: departure.instance, destination };
      this.#log.warn(`the other host could not be told since when it is down: ${explain(error)}`, facts);
    }
  }

  /** @throws SV_MESSAGE */
  hear(args: unknown): void {
    const { success, data } = departureShape.safeParse(args);
    if (!success) throw new ShiftvolError('SV_MESSAGE', 'Cannot take a departure: its arguments have another shape');
    this.#known.delete(data.instance);
    this.#known.set(data.instance, data);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MOST && oldest !== undefined) this.#known.delete(oldest);
  }

  /** Each once. */
  take({ ref }: { readonly ref: string }): Departure | undefined {
    const departure = this.#known.get(ref);
    this.#known.delete(ref);
    return departure;
  }
}
