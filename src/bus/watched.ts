/** What a message says of itself to those who watch this process: see engine/channels.ts. Pure. */
import type { ConsumeMessage, Message } from 'amqplib';
import { openstackRequestId, type RequestMessage } from '../engine/channels.ts';
import { sentAt } from '../events/notification.ts';
import type { Translation } from '../events/translate.ts';
import { textHeaders } from './channel.ts';
import { passageOf } from './outlet.ts';
import type { RpcRequest } from './rpc/request.ts';
import type { Verdict } from './verdict.ts';

type Told = Extract<Translation, { kind: 'command' }>;

/** `id`: oslo.messaging's of the message. `inner`: what oslo.messaging's envelope has in it. */
export function watchedNotification(
  message: ConsumeMessage,
  { command, event }: Told,
  id: string | undefined,
  inner: unknown,
): RequestMessage {
  const at = typeof inner === 'object' && inner !== null && 'timestamp' in inner ? sentAt(inner) : undefined;
  const { attempts, exchange, key } = passageOf(message);
  const requestId = openstackRequestId(command.requestId);
  return {
    by: 'notification',
    name: event,
    instance: command.instance.ref,
    ...(requestId !== undefined && { requestId }),
    ...('volumeId' in command && command.volumeId !== undefined && { volumeId: command.volumeId }),
    ...traceContext(message),
    delivery: {
      exchange,
      routingKey: key,
      bodyBytes: message.content.length,
      ...(at !== undefined && { sentAt: at }),
      ...(id !== undefined && { messageId: id }),
      ...(attempts > 0 && { attempts }),
    },
  };
}

/** What became of a notification that could not be done: an error where it is one. */
export function watchedVerdict(verdict: Verdict): Pick<RequestMessage, 'outcome' | 'failure'> {
  switch (verdict.kind) {
    case 'ignore':
      return { outcome: verdict.reason };
    case 'bury':
      return { outcome: 'dead-letter', failure: verdict.error };
    case 'retry':
      return { outcome: 'retry', failure: verdict.error };
    default:
      return verdict satisfies never;
  }
}

export function watchedCall(
  message: Message,
  { method, context, reply, uniqueId, traced }: RpcRequest,
): RequestMessage {
  const { requestId, globalRequestId } = context;
  const { exchange, routingKey } = message.fields;
  return {
    by: reply === undefined ? 'cast' : 'call',
    name: method,
    ...(requestId !== undefined && { requestId }),
    ...(globalRequestId !== undefined && { globalRequestId }),
    ...(traced !== undefined && { traceparent: traced }),
    ...traceContext(message),
    delivery: {
      exchange,
      routingKey,
      bodyBytes: message.content.length,
      ...(uniqueId !== undefined && { messageId: uniqueId }),
    },
  };
}

/** oslo.messaging writes none; an instrumented sender, or a proxy that knows it, does. */
function traceContext(message: Message): Pick<RequestMessage, 'traceparent' | 'tracestate'> {
  const { traceparent, tracestate } = textHeaders(message);
  return { ...(traceparent !== undefined && { traceparent }), ...(tracestate !== undefined && { tracestate }) };
}
