/**
 * How this process does: the one answer that the watchdog of the service manager, `shiftvol health`, `/healthz`, `/readyz` and the metrics all
 * give. Alive: nothing is wrong that only a restart mends. Ready: all is there that its work needs.
 */

/** Something that is needed. `look` says what is wrong; undefined: nothing. One that throws is wrong, in its own words. */
export type Part = {
  readonly name: string;
  /** Only a restart mends it, so that it is asked each time and answers at once. */
  readonly vital?: boolean;
  look(signal: AbortSignal): string | undefined | Promise<string | undefined>;
};
export type Missing = { readonly part: string; readonly what: string };
export type Readiness = { readonly ready: boolean; readonly missing: readonly Missing[] };

/** Others' programs are asked no more often, however many probes there are; and not for longer. */
const FRESH_MS = 2000;
const LOOK_MS = 2000;

export class Health {
  readonly #parts: readonly Part[];
  #last: { readonly at: number; readonly readiness: Promise<Readiness> } | undefined;

  constructor(parts: readonly Part[]) {
    this.#parts = parts;
  }

  get parts(): readonly string[] {
    return this.#parts.map(part => part.name);
  }

  /** Why this process should be started anew; undefined where it lives well. That it answers at all says that its event loop turns. */
  alive(): string | undefined {
    const signal = AbortSignal.abort();
    for (const { vital, look } of this.#parts) {
      const what = vital ? look(signal) : undefined;
      if (typeof what === 'string') return what;
    }
    return undefined;
  }

  /** Never rejects. */
  ready(): Promise<Readiness> {
    const now = performance.now();
    if (this.#last === undefined || now - this.#last.at > FRESH_MS)
      this.#last = { at: now, readiness: this.#look(AbortSignal.timeout(LOOK_MS)) };
    return this.#last.readiness;
  }

  /** For whoever asks over the socket. */
  told(readiness?: Readiness): { readonly ill?: string; readonly missing?: readonly Missing[] } {
    const ill = this.alive();
    return { ...(ill !== undefined && { ill }), ...(readiness && { missing: readiness.missing }) };
  }

  /** Something changed that is to be seen at once. */
  forget(): void {
    this.#last = undefined;
  }

  async #look(signal: AbortSignal): Promise<Readiness> {
    const found = await Promise.all(
      this.#parts.map(async ({ name, look }): Promise<Missing | undefined> => {
        try {
          const what = await look(signal);
          return what === undefined ? undefined : { part: name, what };
        } catch (error) {
          return { part: name, what: error instanceof Error ? error.message : String(error) };
        }
      }),
    );
    const missing = found.filter(one => one !== undefined);
    return { ready: missing.length === 0, missing };
  }
}
