import { inspect } from 'node:util';

const HIDDEN = '[secrets]';

/**
 * Passwords, keys and keyrings on their way to the tool that needs them. Whatever prints, serializes or inspects it learns nothing,
 * not even which there are.
 */
export class Secrets {
  readonly #values: ReadonlyMap<string, string>;

  constructor(values: Readonly<Record<string, string>> = {}) {
    this.#values = new Map(Object.entries(values));
  }

  get(name: string): string | undefined {
    return this.#values.get(name);
  }

  get isEmpty(): boolean {
    return this.#values.size === 0;
  }

  /** These, and those of `more`, which go before. */
  with(more: Readonly<Record<string, string>>): Secrets {
    return new Secrets({ ...this.reveal(), ...more });
  }

  /** In the clear, for the agent's socket. */
  reveal(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#values);
  }

  toJSON(): string {
    return HIDDEN;
  }

  toString(): string {
    return HIDDEN;
  }

  [inspect.custom](): string {
    return HIDDEN;
  }
}
