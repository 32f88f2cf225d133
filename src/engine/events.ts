import { channel } from 'node:diagnostics_channel';
import { report, type ShiftvolError } from '../errors.ts';
import {
  type AttachmentEvent,
  type AttachmentId,
  type Command,
  type InstanceKey,
  rootSource,
  type Source,
  type StepTiming,
} from './model.ts';

/** Published for each event when it is made, a moment before the journal has it: for those who watch this process. */
export const eventChannel = channel('shiftvol.event');

/** What the events of one command have in common; each phase adds its own facts. */
export class EventMaker {
  readonly #command: Command;
  readonly #host: string;
  readonly #instance: InstanceKey | string;
  readonly #started: number;
  #begun = false;

  /** `started` by performance.now(): when the command was taken up, before its instance was looked for. */
  constructor(command: Command, instance: InstanceKey | string, host: string, started: number) {
    this.#command = command;
    this.#instance = instance;
    this.#host = host;
    this.#started = started;
  }

  /** A start was told. */
  get begun(): boolean {
    return this.#begun;
  }

  start(id?: AttachmentId): AttachmentEvent {
    this.#begun = true;
    return told(this.#event('start', id));
  }

  end(id: AttachmentId | undefined, steps: readonly StepTiming[]): AttachmentEvent {
    return told({ ...this.#event('end', id), durationMs: this.elapsedMs(), steps });
  }

  error(error: ShiftvolError, id?: AttachmentId): AttachmentEvent {
    return told({ ...this.#event('error', id), durationMs: this.elapsedMs(), error: report(error) });
  }

  elapsedMs(): number {
    return Math.round((performance.now() - this.#started) * 1000) / 1000;
  }

  #event(phase: AttachmentEvent['phase'], id: AttachmentId | undefined): AttachmentEvent {
    const command = this.#command;
    const target = 'target' in command ? command.target : undefined;
    const volumeId = 'volumeId' in command ? command.volumeId : undefined;
    const template = templateOf(command);
    return {
      action: command.action,
      phase,
      instance: this.#instance,
      host: this.#host,
      at: new Date().toISOString(),
      ...(id === undefined ? {} : { attachmentId: id }),
      ...(target === undefined ? {} : { target }),
      ...(template === undefined ? {} : { template }),
      ...(volumeId === undefined ? {} : { volumeId }),
      ...(command.requestId === undefined ? {} : { requestId: command.requestId }),
    };
  }
}

function told(event: AttachmentEvent): AttachmentEvent {
  if (eventChannel.hasSubscribers) eventChannel.publish(event);
  return event;
}

function templateOf(command: Command): string | undefined {
  const source: Source | undefined =
    command.action === 'spawn' ? rootSource(command) : command.action === 'attach' ? command.source : undefined;
  return source?.kind === 'template' ? source.template : undefined;
}
