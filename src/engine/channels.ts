/**
 * What this process tells of its work to whoever watches it from inside: traces, and the lines of its log. Beside the steps (saga.ts) and the
 * events (events.ts). Where nobody watches it costs one look.
 */
import { channel, tracingChannel } from 'node:diagnostics_channel';
import type { AttachmentEvent, Command, Outcome } from './model.ts';

/** How a message came, where it came over the bus. */
export type Delivery = {
  readonly exchange: string;
  readonly routingKey: string;
  /** oslo.messaging's, not AMQP's. */
  readonly messageId?: string;
  readonly bodyBytes: number;
  /** When its sender sent it first, in ISO 8601, by the clock there. */
  readonly sentAt?: string;
  /** How often it was tried before. */
  readonly attempts?: number;
};

/** One request from outside, from its arrival to its end. */
export type RequestMessage = {
  /** `call`: whoever asks waits for the answer; `cast`: nobody does. Both are RPC. */
  readonly by: 'notification' | 'call' | 'cast' | 'http';
  /** The event's type, the method, the command of the socket. */
  readonly name: string;
  /** OpenStack's: `req-…`. */
  readonly requestId?: string;
  readonly globalRequestId?: string;
  readonly instance?: string;
  readonly volumeId?: string;
  /** W3C Trace Context, as the caller wrote it: not checked. */
  readonly traceparent?: string;
  readonly tracestate?: string;
  readonly delivery?: Delivery;
  /** Filled in by whoever carries it out and does not throw what went wrong. */
  outcome?: string;
  failure?: unknown;
};
export const requestChannel = tracingChannel<unknown, RequestMessage>('shiftvol.request');

/** One command of the engine, from its arrival, waiting for others of its instance included. `result`: how it ended, where it ended well. */
export type CommandMessage = { readonly command: Command; readonly host: string; readonly result?: Outcome };
export const commandChannel = tracingChannel<unknown, CommandMessage>('shiftvol.command');

/** An event that the broker has; `ms`: how long giving it to the broker took. */
export type ToldMessage = { readonly event: AttachmentEvent; readonly exchange: string; readonly ms: number };
export const toldChannel = channel('shiftvol.told');

/** Does `work`, watched as one request. `describe` is called only where somebody watches. */
export function asked<T>(describe: () => RequestMessage, work: (request?: RequestMessage) => Promise<T>): Promise<T> {
  if (!requestChannel.hasSubscribers) return work();
  const request = describe();
  return requestChannel.tracePromise(() => work(request), request);
}

/** The id that OpenStack knows: ours is `attach/INSTANCE/VOLUME/req-…`, for a later try or a second command with `#1` behind it. */
export function openstackRequestId(requestId: string | undefined): string | undefined {
  return requestId?.split('/').at(-1)?.replace(/#\d+$/, '');
}
