import { CODES, EXIT, ShiftvolError } from '../errors.ts';
import type { EventMaker } from './events.ts';
import type { AttachmentId, Command, Outcome, StepTiming } from './model.ts';
import type { Also, Journal, RequestRecord } from './ports.ts';

/** What the journal keeps of requests, so that the same one twice happens once. */
export class Requests {
  readonly #journal: Journal;
  /** Errors that a saga has told in its own transaction. */
  readonly #told = new WeakSet<ShiftvolError>();

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  /** The answer that the request got before, if it was seen. @throws the error that it got */
  answered({ requestId }: Command): Outcome | undefined {
    const result = requestId === undefined ? undefined : this.#journal.request(requestId)?.result;
    if (result?.state === 'failed') throw new ShiftvolError(result.error.code, result.error.message, result.error);
    if (result?.state !== 'done') return undefined;
    const attachment = result.attachment === undefined ? undefined : this.#journal.find(result.attachment);
    return { ...result.outcome, changed: false, attachments: attachment ? [attachment] : [] };
  }

  open({ requestId, action }: Command): { request?: RequestRecord } {
    return requestId === undefined ? {} : { request: { id: requestId, action, result: { state: 'open' } } };
  }

  done(
    { requestId, action }: Command,
    events: EventMaker,
    steps: readonly StepTiming[],
    attachment?: AttachmentId,
  ): { request?: RequestRecord } {
    if (requestId === undefined) return {};
    const outcome: Outcome = { action, changed: true, attachments: [], durationMs: events.elapsedMs(), steps };
    const result = { state: 'done' as const, outcome, ...(attachment !== undefined && { attachment }) };
    return { request: { id: requestId, action, result } };
  }

  /** The failure as a saga notes it, in the transaction that ends it. */
  failed(command: Command, events: EventMaker, error: ShiftvolError, id?: AttachmentId): Also {
    this.#told.add(error);
    const event = events.error(error, id);
    const { requestId, action } = command;
    if (requestId === undefined) return { events: [event] };
    const { retry, exit } = CODES[error.code];
    if (retry || exit === EXIT.notFound) {
      // It may pass, and what is not there may come: asked again, it is tried again.
      this.#journal.forgetRequest(requestId);
      return { events: [event] };
    }
    const reported = event.error ?? { code: error.code, message: error.message };
    return { events: [event], request: { id: requestId, action, result: { state: 'failed', error: reported } } };
  }

  /** Notes the failure of a command, unless its saga has done so. `tell`: as an event, too. */
  refused(command: Command, events: EventMaker, error: ShiftvolError, tell: boolean): void {
    if (this.#told.has(error)) return;
    const { events: told = [], ...request } = this.failed(command, events, error);
    this.#journal.record({ ...request, ...(tell && { events: told }) });
  }
}
