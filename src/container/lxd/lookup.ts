import type { InstanceRef } from '../../engine/model.ts';
import { ShiftvolError } from '../../errors.ts';
import type { LxdClient } from './client.ts';
import { uuidOf } from './instance.ts';
import { LxdError } from './lxd-error.ts';
import { type LxdInstance, lxdInstance, lxdInstances } from './wire.ts';

/** Names that LXD accepts, generously; what is none may still be a uuid. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$/;
const MAX_KNOWN = 10_000;

type Place = { readonly project: string; readonly name: string };
/** An instance as it was, and the tag of that state. */
export type Look = { readonly instance: LxdInstance; readonly etag: string };

/** Finds instances by name or Nova's uuid. One GET by name, or where it was the last time; the list of all only when that fails. */
export class Lookup {
  readonly #client: LxdClient;
  readonly #project: string;
  /** Where a reference was found by the list. Only a hint: every answer is compared with what was asked. */
  readonly #known = new Map<string, Place>();
  /** Of what was looked at by itself: good for a change, as long as nobody else has changed it. */
  readonly #etags = new WeakMap<LxdInstance, string>();

  /** `project`: where a name without a project is looked for first. */
  constructor(client: LxdClient, project: string) {
    this.#client = client;
    this.#project = project;
  }

  /**
   * In the given project; without one in ours, then in all. `project/name` is understood too.
   * @throws SV_USAGE: several projects have it
   */
  async find(asked: InstanceRef, signal?: AbortSignal): Promise<LxdInstance | undefined> {
    const { ref, project } = splitRef(asked);
    const known = this.#known.get(keyOf({ ref, project }));
    const places = [known, NAME.test(ref) ? { project: project ?? this.#project, name: ref } : undefined];
    for (const place of places) {
      const found = place && (await this.#at(place, signal));
      if (found && isAsked(found, ref)) return found;
    }
    const found = await this.#search(ref, project, signal);
    if (found) this.#remember({ ref, project }, found);
    return found;
  }

  /** What a change may go by instead of looking again; LXD refuses it (412) if the instance has been changed since. */
  look(instance: LxdInstance): Look | undefined {
    const etag = this.#etags.get(instance);
    return etag === undefined ? undefined : { instance, etag };
  }

  /** Every instance of every project, of the whole cluster. */
  async all(signal?: AbortSignal): Promise<readonly LxdInstance[]> {
    return lxdInstances((await this.#client.get('/1.0/instances?recursion=1&all-projects=true', signal)).metadata);
  }

  async #at({ project, name }: Place, signal?: AbortSignal): Promise<LxdInstance | undefined> {
    try {
      const { metadata, etag } = await this.#client.get(instancePath(project, name), signal);
      const instance = lxdInstance(metadata);
      this.#etags.set(instance, etag);
      return instance;
    } catch (error) {
      // Also what LXD says of a project that is not there.
      if (error instanceof LxdError && error.status === 404) return undefined;
      throw error;
    }
  }

  async #search(ref: string, project: string | undefined, signal?: AbortSignal): Promise<LxdInstance | undefined> {
    const all = await this.all(signal);
    const found = all.filter(i => (project === undefined || i.project === project) && isAsked(i, ref));
    if (found.length <= 1) return found[0];
    const where = found.map(i => `"${i.name}" in project "${i.project}"`).join(', ');
    throw new ShiftvolError('SV_USAGE', `Cannot tell which instance "${ref}" is meant: there are ${where}`, {
      field: 'instance',
      remedy: 'give the project too',
    });
  }

  #remember(asked: InstanceRef | { ref: string; project: string | undefined }, { project, name }: LxdInstance): void {
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.set(keyOf(asked), { project, name });
  }
}

export function instancePath(project: string, name: string): string {
  return `/1.0/instances/${encodeURIComponent(name)}?project=${encodeURIComponent(project)}`;
}

function isAsked(instance: LxdInstance, ref: string): boolean {
  return instance.name === ref || uuidOf(instance) === ref.toLowerCase();
}

function splitRef({ ref, project }: InstanceRef): { ref: string; project: string | undefined } {
  const slash = ref.indexOf('/');
  if (project !== undefined || slash < 1 || ref.includes('/', slash + 1)) return { ref, project };
  return { ref: ref.slice(slash + 1), project: ref.slice(0, slash) };
}

function keyOf({ ref, project }: { readonly ref: string; readonly project?: string | undefined }): string {
  return `${project ?? ''}/${ref}`;
}
