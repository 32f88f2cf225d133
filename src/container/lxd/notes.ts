/** A few words of ours about an instance, kept in its configuration: they go where it goes, and with it. */
import type { InstanceRef } from '../../engine/model.ts';
import { ShiftvolError } from '../../errors.ts';
import { instancePath, Lookup } from './lookup.ts';
import { PATIENCE, patiently } from './patience.ts';
import type { LxdRuntime } from './runtime.ts';
import { lxdInstance } from './wire.ts';

const NOTE_KEY = 'user.shiftvol.note';

export class LxdNotes {
  readonly #runtime: LxdRuntime;
  readonly #lookup: Lookup;

  constructor(runtime: LxdRuntime, project = 'default') {
    this.#runtime = runtime;
    this.#lookup = new Lookup(runtime.client, project);
  }

  /** Undefined: no such instance, or nothing is noted. */
  async get(ref: InstanceRef, signal: AbortSignal): Promise<string | undefined> {
    const found = await patiently(() => this.#lookup.find(ref, signal), PATIENCE, signal);
    return found?.config[NOTE_KEY];
  }

  /** Replaces what was noted; undefined removes it. @throws SV_INSTANCE_NOT_FOUND */
  async set(ref: InstanceRef, note: string | undefined, signal: AbortSignal): Promise<void> {
    await patiently(
      async () => {
        const found = await this.#lookup.find(ref, signal);
        if (!found) throw new ShiftvolError('SV_INSTANCE_NOT_FOUND', `Cannot find instance "${ref.ref}"`);
        const path = instancePath(found.project, found.name);
        const { metadata, etag } = await this.#runtime.client.get(path, signal);
        const { config, description } = lxdInstance(metadata);
        if ((config[NOTE_KEY] ?? '') === (note ?? '')) return;
        // LXD takes a PATCH without a description as one that empties it; an empty value removes its key.
        const body = { description, config: { [NOTE_KEY]: note ?? '' } };
        await this.#runtime.client.change('PATCH', path, { body, etag, signal });
      },
      PATIENCE,
      signal,
    );
  }
}
