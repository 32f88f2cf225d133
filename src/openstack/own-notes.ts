/**
 * What we are about to ask of Cinder, on disk before it is asked: an attachment whose answer never reached us, or which the journal never
 * came to know, is found again by these.
 */
import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { ShiftvolError } from '../errors.ts';

const noteShape = z.object({ volumeId: z.string(), attachmentId: z.string().optional(), at: z.string() });
export type Note = z.output<typeof noteShape> & { readonly name: string };

export class OwnNotes {
  readonly #directory: string;
  /** Those of attaches that are under way in this process. */
  readonly #live = new Set<string>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  begin(volumeId: string): Note {
    const note = { name: `${randomUUID()}.json`, volumeId, at: new Date().toISOString() };
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    this.#live.add(note.name);
    this.#write(note);
    return note;
  }

  /** Cinder has given it its id. */
  know(note: Note, attachmentId: string): void {
    this.#write({ ...note, attachmentId });
  }

  /** Nothing is left to be found. */
  end({ name }: Pick<Note, 'name'>): void {
    rmSync(join(this.#directory, name), { force: true });
    this.#live.delete(name);
  }

  /** It stays, for `stale` to tell. */
  leave({ name }: Pick<Note, 'name'>): void {
    this.#live.delete(name);
  }

  /** Names of those that nobody works on any more; `read` says what one is. */
  stale(): readonly string[] {
    return this.#names().filter(name => name.endsWith('.json') && !this.#live.has(name));
  }

  /** @throws SV_STORE: what is there is no note of ours */
  read(name: string): Note {
    const path = join(this.#directory, name);
    try {
      return { name, ...noteShape.parse(JSON.parse(readFileSync(path, 'utf8'))) };
    } catch (cause) {
      throw new ShiftvolError('SV_STORE', `Cannot read the note "${path}"`, {
        remedy: 'see with "openstack volume attachment list" what is left of it, and remove it',
        cause,
      });
    }
  }

  #names(): readonly string[] {
    try {
      return readdirSync(this.#directory);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
      throw error;
    }
  }

  /** All of it or nothing of it. */
  #write({ name, ...note }: Note): void {
    const path = join(this.#directory, name);
    writeFileSync(`${path}.new`, JSON.stringify(note), { mode: 0o600, flush: true });
    renameSync(`${path}.new`, path);
  }
}
