/** Volumes of Cinder that this host attaches on its own, without Nova. */
import type { AttachCommand, Attachment, AttachVolumeCommand, Connection, Outcome } from '../engine/model.ts';
import type { Preview } from '../engine/preview.ts';
import type { Leftover } from '../engine/recover.ts';
import type { Secrets } from '../engine/secrets.ts';
import type { VolumeHost, VolumeService } from '../engine/volume-ports.ts';
import { explain, ShiftvolError } from '../errors.ts';
import type { Log } from '../log/log.ts';
import type { Cinder, ConnectionInfo, Connector, Volume } from './cinder.ts';
import { OpenstackError } from './openstack-error.ts';
import { asOwn, ownAttachment } from './own-connections.ts';
import type { Note, OwnNotes } from './own-notes.ts';
import { withRequestId } from './request-id.ts';

export type OwnVolumesDeps = {
  readonly notes: OwnNotes;
  readonly cinder: () => Promise<Cinder>;
  /** What this host is to storage. */
  readonly connector: () => Promise<Connector>;
  readonly read: (
    info: ConnectionInfo,
    encryption: unknown,
  ) => Promise<{ readonly connection: Connection; readonly secrets: Secrets }>;
  readonly log?: Log | undefined;
};

/** Recover must not wait for Cinder: what is left then is looked for the next time. */
const SWEEP_MS = 30_000;
/** To let go of an attachment although we were told to stop. */
const LETTING_GO_MS = 60_000;
const GIB = 2 ** 30;

export class OwnVolumes implements VolumeService {
  readonly #deps: OwnVolumesDeps;

  constructor(deps: OwnVolumesDeps) {
    this.#deps = deps;
  }

  /**
   * Attachment, connector, connection_info, then the engine. What the journal does not know at the end is let go of, whatever happened.
   * @throws what Cinder says; SV_CONNECTION_INFO; what the engine throws
   */
  async attach(command: AttachVolumeCommand, host: VolumeHost, signal: AbortSignal): Promise<Outcome> {
    const { requestId } = command;
    return await (requestId === undefined
      ? this.#attach(command, host, signal)
      : withRequestId(requestId, () => this.#attach(command, host, signal)));
  }

  async preview(command: AttachVolumeCommand, host: VolumeHost, signal: AbortSignal): Promise<Preview> {
    const volume = await (await this.#deps.cinder()).volume(command.volume, signal);
    const { id: volumeId } = volume;
    const known = ownOf(host.list(), volumeId);
    // What the volume is reached by, Cinder says only when it is exported.
    const facts = {};
    const unknown = { type: 'local', volumeId, name: volumeId, kind: 'device', readOnly: false, facts } as const;
    const connection = known?.connection ?? unknown;
    const { plan: _, steps, ...seen } = await host.preview(commandOf(command, volume, connection), signal);
    if (known) return { ...seen, steps };
    const exporting = { step: 'export', call: 'POST+PUT /attachments', object: volumeId };
    const after = steps.map(s => (s.step === 'connect' ? { ...s, call: 'as Cinder says, then os-complete' } : s));
    return { ...seen, steps: [exporting, ...after] };
  }

  /** In whole GiB, as Cinder has them. @throws SV_OPENSTACK_REFUSED, SV_OPENSTACK: its driver cannot while the volume is in use */
  async enlarge(connection: Connection, sizeBytes: number, signal: AbortSignal): Promise<void> {
    if (ownAttachment(connection) === undefined) return;
    const cinder = await this.#deps.cinder();
    const wantedGib = Math.ceil(sizeBytes / GIB);
    const { sizeGib } = await cinder.volume(connection.volumeId, signal);
    if (sizeGib < wantedGib) await cinder.extend(connection.volumeId, wantedGib, signal);
  }

  /** `known`: of the journal. Ends what is ours for certain; tells of what may be. */
  async sweep(
    known: readonly Connection[],
    { dryRun, signal }: { readonly dryRun: boolean; readonly signal: AbortSignal },
  ): Promise<readonly Leftover[]> {
    const ours = new Set(known.map(ownAttachment));
    const left: Leftover[] = [];
    const deadline = AbortSignal.any([AbortSignal.timeout(SWEEP_MS), signal]);
    for (const name of this.#deps.notes.stale()) {
      let what = `the note ${name}`;
      try {
        const note = this.#deps.notes.read(name);
        what = `attachment ${note.attachmentId ?? '(of unknown id)'} of Cinder's volume ${note.volumeId}, of ${note.at}`;
        const rest = await this.#end(note, ours, dryRun, deadline);
        left.push(...rest.map(text => ({ kind: 'attachment', what: text }) as const));
      } catch (error) {
        signal.throwIfAborted();
        left.push({ kind: 'unseen', what: `${what}: ${explain(error)}` });
      }
    }
    return left;
  }

  async #attach(command: AttachVolumeCommand, host: VolumeHost, signal: AbortSignal): Promise<Outcome> {
    const cinder = await this.#deps.cinder();
    const volume = await cinder.volume(command.volume, signal);
    const known = await this.#settled(volume, host, signal);
    if (known) return await host.execute(commandOf(command, volume, known), signal);
    if (volume.multiattach && !command.readOnly) throw severalMayWrite(volume);
    const note = this.#deps.notes.begin(volume.id);
    const id = await this.#reserve(cinder, note, command.readOnly, signal);
    try {
      const info = await cinder.updateAttachment(id, await this.#deps.connector(), signal);
      const encryption = volume.encrypted ? await cinder.encryption(volume.id, signal) : undefined;
      const { connection, secrets } = await this.#deps.read(info, encryption);
      return await host.execute({ ...commandOf(command, volume, asOwn(connection, id)), secrets }, signal);
    } finally {
      await this.#letGo(cinder, note, id, host);
    }
  }

  /** The connection of a volume that is attached here already. @throws SV_BUSY: an earlier attach of it cannot be ended */
  async #settled(volume: Volume, host: VolumeHost, signal: AbortSignal): Promise<Connection | undefined> {
    const before = ownOf(host.list(), volume.id);
    if (before === undefined || before.isAttached) return before?.connection;
    await host.recover({ dryRun: false, signal });
    const after = ownOf(host.list(), volume.id);
    if (after === undefined || after.isAttached) return after?.connection;
    throw new ShiftvolError('SV_BUSY', `Cannot attach the volume ${volume.id}: an earlier attach of it is unfinished`, {
      field: 'volume',
      remedy: '"shiftvol recover" says what stands in the way',
    });
  }

  /** Only where Cinder has answered that it did not do it, nothing is left to be looked for. */
  async #reserve(cinder: Cinder, note: Note, readOnly: boolean, signal: AbortSignal): Promise<string> {
    try {
      const { id } = await cinder.createAttachment({ volumeId: note.volumeId, mode: readOnly ? 'ro' : 'rw' }, signal);
      this.#deps.notes.know(note, id);
      return id;
    } catch (error) {
      const refused = error instanceof OpenstackError && error.status >= 400 && error.status < 500;
      if (refused) this.#deps.notes.end(note);
      else this.#deps.notes.leave(note);
      throw error;
    }
  }

  async #letGo(cinder: Cinder, note: Note, id: string, host: VolumeHost): Promise<void> {
    const { notes, log } = this.#deps;
    const isKnown = connections(host.list()).some(connection => ownAttachment(connection) === id);
    try {
      if (!isKnown) await cinder.deleteAttachment(id, AbortSignal.timeout(LETTING_GO_MS));
      notes.end(note);
    } catch (error) {
      // The first error is the one to be told; recover goes on with this one.
      notes.leave(note);
      log?.warn(`Cannot let go of the attachment ${id} for now: ${explain(error)}`, { volume: note.volumeId });
    }
  }

  /** What is left of it, and cannot be told to be ours. */
  async #end(
    note: Note,
    ours: ReadonlySet<string | undefined>,
    dryRun: boolean,
    signal: AbortSignal,
  ): Promise<readonly string[]> {
    const { notes } = this.#deps;
    const { attachmentId, volumeId } = note;
    const cinder = await this.#deps.cinder();
    if (attachmentId !== undefined) {
      if (dryRun)
        return ours.has(attachmentId) ? [] : [`${attachmentId} of volume ${volumeId}, which would be deleted`];
      if (!ours.has(attachmentId)) await cinder.deleteAttachment(attachmentId, signal);
      notes.end(note);
      return [];
    }
    const there = await attachmentsOf(cinder, volumeId, signal);
    const maybe = there.filter(a => a.instanceUuid === undefined && a.status === 'reserved' && !ours.has(a.id));
    if (maybe.length === 0 && !dryRun) notes.end(note);
    return maybe.map(({ id }) => `${id} of volume ${volumeId}, reserved for no instance: ours, or another host's`);
  }
}

function commandOf(command: AttachVolumeCommand, { id: volumeId }: Volume, connection: Connection): AttachCommand {
  const { volume: _, idBase, ...asked } = command;
  return { ...asked, volumeId, source: { kind: 'connection', connection, ...(idBase !== undefined && { idBase }) } };
}

function severalMayWrite({ id }: Volume): ShiftvolError {
  return new ShiftvolError(
    'SV_CONNECTION_INFO',
    `Cannot attach the volume ${id}: several may attach it, and a file system that is mounted on two hosts is destroyed`,
    { field: 'volume', remedy: 'attach it for reading only (":ro"), or use a volume of a type without multiattach' },
  );
}

function connections(attachments: readonly Attachment[]): readonly Connection[] {
  return attachments.flatMap(({ plan: { source } }) => (source.kind === 'connection' ? [source.connection] : []));
}

/** The volume as this host has it, by an attachment of its own. */
function ownOf(
  attachments: readonly Attachment[],
  volumeId: string,
): { readonly connection: Connection; readonly isAttached: boolean } | undefined {
  for (const attachment of attachments)
    for (const connection of connections([attachment]))
      if (connection.volumeId === volumeId && ownAttachment(connection) !== undefined)
        return { connection, isAttached: attachment.status.state === 'attached' };
  return undefined;
}

/** None where the volume is gone. */
async function attachmentsOf(cinder: Cinder, volumeId: string, signal: AbortSignal) {
  try {
    return await cinder.attachments(volumeId, signal);
  } catch (error) {
    if (error instanceof OpenstackError && error.status === 404) return [];
    throw error;
  }
}
