/** What spans are called, and what they say. OpenTelemetry's names where it has them, else OpenStack's or ours. Pure. */
import { type Attributes, SpanKind } from '@opentelemetry/api';
import { type CommandMessage, openstackRequestId, type RequestMessage, type ToldMessage } from '../engine/channels.ts';
import type { Outcome, Plan } from '../engine/model.ts';
import { asError, ShiftvolError } from '../errors.ts';

/** As the messaging conventions say: what is done, and where it came from. */
export function requestName({ by, name, delivery }: RequestMessage): string {
  if (by === 'notification') return `process ${delivery?.exchange ?? name}`;
  return by === 'http' ? `POST /v1/call ${name}` : name;
}

export const REQUEST_KINDS = {
  notification: SpanKind.CONSUMER,
  cast: SpanKind.CONSUMER,
  call: SpanKind.SERVER,
  http: SpanKind.SERVER,
} as const satisfies Record<RequestMessage['by'], SpanKind>;

export function requestAttributes(request: RequestMessage): Attributes {
  const { by, name, requestId, globalRequestId, instance, volumeId, delivery } = request;
  return given({
    'openstack.request_id': openstackRequestId(requestId),
    'openstack.global_request_id': globalRequestId,
    'openstack.instance_uuid': instance,
    'openstack.volume_id': volumeId,
    ...(by === 'notification' && { 'openstack.event_type': name }),
    ...((by === 'call' || by === 'cast') && { 'rpc.system': 'oslo.messaging', 'rpc.method': name }),
    ...(by === 'http' && { 'http.request.method': 'POST', 'url.path': '/v1/call', 'shiftvol.command': name }),
    ...(delivery && {
      'messaging.system': 'rabbitmq',
      'messaging.operation.type': 'process',
      'messaging.operation.name': 'process',
      'messaging.destination.name': destination(delivery.exchange, delivery.routingKey),
      'messaging.rabbitmq.destination.routing_key': delivery.routingKey,
      'messaging.message.id': delivery.messageId,
      'messaging.message.body.size': delivery.bodyBytes,
      'shiftvol.attempts': delivery.attempts,
    }),
  });
}

export function commandAttributes({ command }: CommandMessage): Attributes {
  return given({
    'shiftvol.action': command.action,
    'shiftvol.request_id': command.requestId,
    'openstack.request_id': openstackRequestId(command.requestId),
    'openstack.instance_uuid': command.instance.ref,
    'openstack.volume_id': 'volumeId' in command ? command.volumeId : undefined,
    'shiftvol.target': 'target' in command ? command.target : undefined,
  });
}

/** Of what a plan is for, and what it is made with. */
export function planAttributes(plan: Plan): Attributes {
  return given({
    'shiftvol.attachment_id': plan.id,
    'openstack.instance_uuid': plan.instance,
    'openstack.volume_id': plan.volumeId,
    'shiftvol.target': plan.target,
    'shiftvol.runtime': plan.runtime,
    'shiftvol.backend': plan.source.kind === 'connection' ? plan.source.connection.type : plan.source.kind,
    'shiftvol.snapshot': plan.snapshot,
  });
}

export function outcomeAttributes({ changed, attachments }: Outcome): Attributes {
  const [first] = attachments;
  return {
    ...(first && planAttributes(first.plan)),
    ...(attachments.length > 1 && { 'shiftvol.attachments': attachments.length }),
    'shiftvol.outcome': changed ? 'done' : 'unchanged',
  };
}

export function toldAttributes({ event, exchange }: ToldMessage): Attributes {
  return given({
    'messaging.system': 'rabbitmq',
    'messaging.operation.type': 'send',
    'messaging.operation.name': 'publish',
    'messaging.destination.name': exchange,
    'shiftvol.event': `shiftvol.${event.action}.${event.phase}`,
    'shiftvol.attachment_id': event.attachmentId,
  });
}

/** `SV_BUSY`: ours where there is one behind it, also where Nova is told one of its own. */
export function codeOf(error: unknown): string {
  for (let e: unknown = error; e instanceof Error; e = e.cause) if (e instanceof ShiftvolError) return e.code;
  return asError(error).code;
}

/** RabbitMQ's form of it. The default exchange is called by its queue. */
const destination = (exchange: string, key: string): string => (exchange === '' ? key : `${exchange}:${key}`);

function given(attributes: Attributes): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
}
