import { inspect } from 'node:util';

/** A password or token that can be handed on but not printed: neither by a template string, JSON.stringify nor console.log. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }
  /** For the one place that sends it. */
  reveal(): string {
    return this.#text;
  }
  toString(): string {
    return '***';
  }
  toJSON(): string {
    return '***';
  }
  [inspect.custom](): string {
    return '***';
  }
}

/** The text without these secrets, and without the password of any URL in it. Short ones are left: they would blot out words. */
export function redact(text: string, secrets: Iterable<Secret> = []): string {
  let clean = text.replaceAll(/\/\/[^/\s@]+@/g, '//***@');
  for (const secret of secrets) {
    const plain = secret.reveal();
    if (plain.length >= 4) clean = clean.replaceAll(plain, '***');
  }
  return clean;
}
