/** Which request a line of the log belongs to: known to all that is done for it, wherever it is logged. */
import { AsyncLocalStorage } from 'node:async_hooks';
import {
  type CommandMessage,
  commandChannel,
  openstackRequestId,
  type RequestMessage,
  requestChannel,
} from '../engine/channels.ts';
import { eventChannel } from '../engine/events.ts';
import type { AttachmentEvent } from '../engine/model.ts';

/** `attachment` becomes known on the way. */
export type About = { readonly request_id?: string; readonly instance?: string; attachment?: string };
class Context {
  readonly about: About;
  readonly above: Context | undefined;

  constructor(about: About, above?: Context) {
    this.about = { ...above?.about, ...about };
    this.above = above;
  }

  learn(attachment: string): void {
    this.about.attachment = attachment;
    this.above?.learn(attachment);
  }
}

/** Typed as the channels are: what others may have put there is none of ours. */
const current = new AsyncLocalStorage<unknown>();

/** From now on; disposing ends it. */
export function keepContext(): Disposable {
  requestChannel.start.bindStore(current, ofRequest);
  commandChannel.start.bindStore(current, ofCommand);
  eventChannel.subscribe(onEvent);
  return {
    [Symbol.dispose]() {
      requestChannel.start.unbindStore(current);
      commandChannel.start.unbindStore(current);
      eventChannel.unsubscribe(onEvent);
    },
  };
}

/** What is known of the request that is being worked on here; empty outside of one. */
export function aboutNow(): About {
  return contextNow()?.about ?? {};
}

function contextNow(): Context | undefined {
  const store = current.getStore();
  return store instanceof Context ? store : undefined;
}

function ofRequest({ requestId, instance }: RequestMessage): Context {
  return new Context(about(requestId, instance));
}

function ofCommand({ command }: CommandMessage): Context {
  return new Context(about(command.requestId, command.instance.ref), contextNow());
}

function about(requestId: string | undefined, instance: string | undefined): About {
  const id = openstackRequestId(requestId);
  return { ...(id !== undefined && { request_id: id }), ...(instance !== undefined && { instance }) };
}

/** Published by EventMaker alone. */
function onEvent(message: unknown): void {
  const { attachmentId } = message as AttachmentEvent;
  if (attachmentId !== undefined) contextNow()?.learn(attachmentId);
}
