/** Dead letters as the page shows and handles them. Looking at them takes them out of their queue for a moment: seldom, and once for all. */
import { z } from 'zod';
import { ShiftvolError } from '../errors.ts';
import { cut } from './rows.ts';
import type { DeadLetterResult, DeadLetterSource } from './source.ts';

/** What is shown of one: ids, names and the reason; never what the message says. */
export type DeadLetterFacts = {
  readonly id: string;
  readonly at: string | null;
  readonly reason: string;
  readonly code: string | null;
  readonly host: string | null;
  readonly queue: string | null;
  readonly event: string | null;
  readonly ids: Readonly<Record<string, string>>;
  readonly bytes: number;
  readonly broker: string;
};

const wanted = z.strictObject({
  ids: z
    .array(z.string().regex(/^[0-9a-f]{4,12}$/))
    .min(1)
    .max(1000),
});
/** Each look is a connection to the broker, and a delivery of each letter. */
const FRESH_MS = 5000;
const ASK_MS = 20_000;

export class DeadLetterDesk {
  readonly #source: DeadLetterSource;
  #looked: { readonly at: number; readonly letters: Promise<readonly DeadLetterFacts[]> } | undefined;

  constructor(source: DeadLetterSource) {
    this.#source = source;
  }

  /** Not older than some seconds. @throws SV_BUS, SV_CONFIG */
  list(): Promise<readonly DeadLetterFacts[]> {
    if (this.#looked && performance.now() - this.#looked.at < FRESH_MS) return this.#looked.letters;
    const letters = this.#source.list(AbortSignal.timeout(ASK_MS)).then(all => all.map(shown));
    this.#looked = { at: performance.now(), letters };
    // A broker that was away is asked again by the next who looks.
    letters.catch(() => {
      this.#looked = undefined;
    });
    return letters;
  }

  /** @throws SV_MESSAGE: not `{"ids": […]}`; SV_USAGE: no such letter; SV_BUS */
  async act(action: 'replay' | 'drop', body: unknown): Promise<DeadLetterResult> {
    const parsed = wanted.safeParse(body);
    if (!parsed.success)
      throw new ShiftvolError('SV_MESSAGE', 'Cannot take the request: {"ids": […]} with 1 to 1000 ids is accepted', {
        field: 'ids',
      });
    try {
      return await this.#source[action](parsed.data.ids, AbortSignal.timeout(ASK_MS));
    } finally {
      this.#looked = undefined;
    }
  }
}

function shown({ id, at, reason, code, host, queue, event, ids, bytes, broker }: DeadLetterFacts): DeadLetterFacts {
  const cutOrNull = (text: string | null) => (text === null ? null : cut(text));
  return {
    id,
    at: cutOrNull(at),
    reason: cut(reason),
    code: cutOrNull(code),
    host: cutOrNull(host),
    queue: cutOrNull(queue),
    event: cutOrNull(event),
    ids: Object.fromEntries(Object.entries(ids).map(([key, value]) => [key, cut(value)])),
    bytes,
    broker: cut(broker),
  };
}
