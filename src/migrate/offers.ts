/**
 * Volumes that wait to be fetched by another host: `offers/ID.json` of the state directory, so that they outlive a restart. Of the token
 * only its sha256 is kept: whoever reads the file cannot fetch.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { isNodeErrno } from '../kernel/errno.ts';

/** Between the two calls of Nova lie seconds; an instance that waits for its confirmation is not fetched any more. */
const LIFETIME_MS = 24 * 3_600_000;

const offerShape = z.strictObject({
  attachment: z.string().regex(/^[0-9a-f]{16}$/),
  tokenSha256: z.string().regex(/^[0-9a-f]{64}$/),
  expiresAt: z.number(),
  /** Of an instance that still runs: another pass comes after it. */
  pass: z.literal('first').optional(),
});
export type Offer = z.infer<typeof offerShape> & { readonly id: string };

export class Offers {
  readonly #directory: string;

  constructor(stateDir: string) {
    this.#directory = join(stateDir, 'offers');
  }

  /** For one transfer of one attachment: an earlier one of the same attachment counts no more. */
  make(attachment: string, pass?: 'first'): { readonly id: string; readonly token: string } {
    this.endOf(attachment);
    const [id, token] = [randomBytes(8).toString('hex'), randomBytes(32).toString('base64url')];
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    const offer = {
      attachment,
      tokenSha256: sha256(token),
      expiresAt: Date.now() + LIFETIME_MS,
      ...(pass && { pass }),
    };
    const file = this.#file(id);
    writeFileSync(`${file}.new`, JSON.stringify(offer), { mode: 0o600, flush: true });
    renameSync(`${file}.new`, file);
    return { id, token };
  }

  /** Undefined: no such offer, another token, or too late; which of them is not told. */
  find(id: string, token: string): Offer | undefined {
    if (!/^[0-9a-f]{16}$/.test(id)) return undefined;
    const offer = this.#read(id);
    const fits = timingSafeEqual(Buffer.from(sha256(token)), Buffer.from(offer?.tokenSha256 ?? sha256('')));
    return offer && fits && offer.expiresAt > Date.now() ? offer : undefined;
  }

  end(id: string): void {
    rmSync(this.#file(id), { force: true });
  }

  endOf(attachment: string): void {
    for (const offer of this.#all()) if (offer.attachment === attachment) this.end(offer.id);
  }

  /** At the start: what nobody came for, and first passes, which ended with the process that made them. */
  clean(): void {
    for (const { id, expiresAt, pass } of this.#all()) if (expiresAt <= Date.now() || pass === 'first') this.end(id);
  }

  #all(): readonly Offer[] {
    try {
      return readdirSync(this.#directory).flatMap(name => this.#read(name.replace(/\.json$/, '')) ?? []);
    } catch (error) {
      if (isNodeErrno(error, 'ENOENT')) return [];
      throw error;
    }
  }

  #read(id: string): Offer | undefined {
    try {
      const { success, data } = offerShape.safeParse(JSON.parse(readFileSync(this.#file(id), 'utf8')));
      return success ? { ...data, id } : undefined;
    } catch (error) {
      if (isNodeErrno(error, 'ENOENT') || error instanceof SyntaxError) return undefined;
      throw error;
    }
  }

  #file(id: string): string {
    return join(this.#directory, `${id}.json`);
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
