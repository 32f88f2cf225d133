/** Channels that can be used without looking whether they still are: after the end an ack is a no-op and a publish a rejection. */
import { type ConfirmChannel, type ConsumeMessage, IllegalOperationError, type Message, type Options } from 'amqplib';
import { ShiftvolError } from '../errors.ts';
import { deadline, type Session } from './connection.ts';

const CLOSE_TIMEOUT_MS = 5000;
/** Small beside a prefetch of 64, so that the broker goes on sending. */
const PASSED_TOGETHER = 16;

export type PublishProperties = Pick<
  Options.Publish,
  'contentType' | 'contentEncoding' | 'messageId' | 'priority' | 'persistent'
> & {
  /** Texts only: Python takes a number of 128 to 32767 for the length of a text, and reads on from there for ever. */
  readonly headers?: Readonly<Record<string, string>>;
};

/** No queue takes a message that was published as mandatory. */
export class UnroutableError extends ShiftvolError {
  constructor(exchange: string, key: string) {
    super('SV_BUS', `Cannot publish to exchange "${exchange}" with key "${key}": no queue takes it`);
  }
}

export class BusChannel implements AsyncDisposable {
  /** For declaring and consuming. amqplib throws where the channel is closed: inside an async function that is a rejection. */
  readonly raw: ConfirmChannel;
  /** Aborted when the channel is closed, by us, by the broker or with its connection. */
  readonly signal: AbortSignal;
  readonly #closed = new AbortController();
  readonly #returned = new Set<string>();
  /** Publishes that the broker has not confirmed yet: what to call when it never will. */
  readonly #publishing = new Set<() => void>();
  #sequence = 0;
  /** All deliveries up to this one are settled, or passed. */
  #floor = 0;
  /** Settled out of order, above the floor. */
  readonly #settled = new Set<number>();
  #passed: { readonly last: ConsumeMessage; readonly count: number } | undefined;

  private constructor(raw: ConfirmChannel, session: Session) {
    this.raw = raw;
    this.signal = AbortSignal.any([session.signal, this.#closed.signal]);
    const end = (cause?: unknown) =>
      this.#closed.abort(new ShiftvolError('SV_BUS', 'The channel to the broker is closed', { cause }));
    // amqplib: 'error' without a listener ends the process; a handler that throws gives 'handler-error' alone.
    raw.on('error', end).on('close', end).on('handler-error', end);
    const lost = () => {
      for (const fail of [...this.#publishing]) fail();
    };
    this.signal.addEventListener('abort', lost, { once: true });
    raw.on('return', message => {
      if (typeof message.properties.correlationId === 'string') this.#returned.add(message.properties.correlationId);
    });
  }

  static async open(session: Session): Promise<BusChannel> {
    session.signal.throwIfAborted();
    return new BusChannel(await session.model.createConfirmChannel(), session);
  }

  /** False where it came too late: the broker gives the message out again, and its outcome is known by then. */
  ack(message: ConsumeMessage): boolean {
    return this.#settle(message, () => this.raw.ack(message));
  }

  /** Gives a message back to the queue. */
  requeue(message: ConsumeMessage): boolean {
    return this.#settle(message, () => this.raw.nack(message, false, true));
  }

  /**
   * Acknowledges what nothing has to be done with, soon and with others: one frame for so many messages is what most of them cost. Where
   * one before it is still worked on, it is acknowledged by itself.
   */
  pass(message: ConsumeMessage): void {
    const tag = message.fields.deliveryTag;
    if (tag !== this.#floor + 1) {
      this.ack(message);
      return;
    }
    this.#rise(tag);
    const count = (this.#passed?.count ?? 0) + 1;
    if (this.#passed === undefined) setImmediate(() => this.#acknowledgePassed());
    this.#passed = { last: message, count };
    if (count % PASSED_TOGETHER === 0) this.#acknowledgePassed();
  }

  #acknowledgePassed(): void {
    const last = this.#passed?.last;
    this.#passed = undefined;
    if (last) this.#attempt(() => this.raw.ack(last, true));
  }

  #settle(message: ConsumeMessage, act: () => void): boolean {
    const done = this.#attempt(act);
    if (done) this.#rise(message.fields.deliveryTag);
    return done;
  }

  #rise(tag: number): void {
    if (tag !== this.#floor + 1) {
      this.#settled.add(tag);
      return;
    }
    this.#floor = tag;
    while (this.#settled.delete(this.#floor + 1)) this.#floor++;
  }

  #attempt(act: () => void): boolean {
    if (this.signal.aborted) return false;
    try {
      act();
      return true;
    } catch (error) {
      if (error instanceof IllegalOperationError) return false; // being closed, and not told yet
      throw error;
    }
  }

  /**
   * Resolves when the broker has it in a queue (`mandatory`), or in every queue there is for it, be it none.
   * @throws UnroutableError: no queue for a mandatory one; SV_BUS: channel closed, or refused
   */
  async publish(
    exchange: string,
    key: string,
    content: Buffer,
    properties: PublishProperties,
    options: { mandatory: boolean },
  ): Promise<void> {
    if (!(await this.offer(exchange, key, content, properties, options))) throw new UnroutableError(exchange, key);
  }

  /** As `publish`; of a mandatory one that no queue takes it says false. @throws SV_BUS: channel closed, or refused */
  async offer(
    exchange: string,
    key: string,
    content: Buffer,
    properties: PublishProperties,
    options: { mandatory: boolean },
  ): Promise<boolean> {
    const correlationId = options.mandatory ? String(++this.#sequence) : undefined;
    await new Promise<void>((resolve, reject) => {
      const fail = (cause: unknown) =>
        reject(new ShiftvolError('SV_BUS', `Cannot publish to exchange "${exchange}" with key "${key}"`, { cause }));
      if (this.signal.aborted) {
        fail(this.signal.reason);
        return;
      }
      const lost = () => fail(this.signal.reason);
      this.#publishing.add(lost);
      const all: Options.Publish = {
        persistent: true,
        ...properties,
        ...(correlationId === undefined ? {} : { mandatory: true, correlationId }),
      };
      const settled = (error: unknown) => {
        this.#publishing.delete(lost);
        if (error) fail(error);
        else resolve();
      };
      try {
        this.raw.publish(exchange, key, content, all, settled);
      } catch (error) {
        settled(error); // being closed, and not told yet
      }
    });
    // The broker returns what it could not route before it confirms it.
    return correlationId === undefined || !this.#returned.delete(correlationId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.signal.aborted) return;
    this.#acknowledgePassed();
    // Closed at the same moment: fine. The signal, since amqplib forgets who waits for a close when the connection is lost meanwhile.
    await deadline(this.raw.close(), CLOSE_TIMEOUT_MS, this.signal).catch(() => undefined);
  }
}

/** The broker's answer to something on a channel of its own, since a refusal closes the channel: 404, 406, 403, ... or undefined for yes. */
export async function ask(
  session: Session,
  question: (channel: BusChannel) => Promise<unknown>,
): Promise<number | undefined> {
  await using channel = await BusChannel.open(session);
  try {
    await question(channel);
    return undefined;
  } catch (error) {
    session.signal.throwIfAborted();
    const code = replyCode(error);
    if (code === undefined) throw error;
    return code;
  }
}

/** AMQP's reply code of an error of amqplib's. */
export function replyCode(error: unknown): number | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' ? error.code : undefined;
}

/** Headers of a message as texts, leaving out what is none. */
export function textHeaders(message: Message): Readonly<Record<string, string>> {
  const headers: Readonly<Record<string, unknown>> = message.properties.headers ?? {};
  return Object.fromEntries(Object.entries(headers).filter((e): e is [string, string] => typeof e[1] === 'string'));
}
