/**
 * The one error class of shiftvol; its codes are in error-codes.ts.
 *
 * Text form: "Cannot <verb> <what>: <what is>, <what is accepted>", no full stop, strings quoted, numbers with units.
 * What to do about it is `remedy`; the deeper reason is `cause`, never pasted into the text: `explain` walks it.
 */

import { CODES, type Code, type ExitStatus } from './error-codes.ts';

export { CODES, type Code, EXIT, type ExitStatus, helpUrl } from './error-codes.ts';

export type ErrorFacts = {
  /** Which field of the input is wrong, as a path: `extents[2].hostId`. */
  readonly field?: string;
  /** What the reader can do about it, as an imperative: `choose a host id in 200000-265535`. */
  readonly remedy?: string;
  readonly cause?: unknown;
};

export class ShiftvolError extends Error {
  readonly code: Code;
  readonly field: string | undefined;
  readonly remedy: string | undefined;

  constructor(code: Code, message: string, facts: ErrorFacts = {}) {
    super(message, 'cause' in facts ? { cause: facts.cause } : undefined);
    this.name = 'ShiftvolError';
    this.code = code;
    this.field = facts.field;
    this.remedy = facts.remedy;
  }

  get exit(): ExitStatus {
    return CODES[this.code].exit;
  }
}

/** True for a ShiftvolError, of one of `codes` where some are given. */
export function isError(error: unknown, ...codes: readonly Code[]): error is ShiftvolError {
  return error instanceof ShiftvolError && (codes.length === 0 || codes.includes(error.code));
}

/** Any thrown value as a ShiftvolError: ours as it is, an abort as SV_CANCELLED or SV_TIMEOUT, all else as SV_INTERNAL. */
export function asError(error: unknown): ShiftvolError {
  if (error instanceof ShiftvolError) return error;
  if (error instanceof SuppressedError) return asError(error.suppressed);
  if (error instanceof Error && error.name === 'AbortError')
    return new ShiftvolError('SV_CANCELLED', 'Cancelled', { cause: error });
  if (error instanceof Error && error.name === 'TimeoutError')
    return new ShiftvolError('SV_TIMEOUT', 'It took longer than allowed', { cause: error });
  return new ShiftvolError('SV_INTERNAL', error instanceof Error ? error.message : String(error), { cause: error });
}

/** One line for a person: the text, the causes behind it, and what to do. */
export function explain(error: unknown): string {
  const { text, remedy } = unfold(error);
  return text + (remedy === undefined ? '' : ` (${remedy})`);
}

/** The texts of an error and its causes in one line, each once, and the first remedy among them. Of a failed undo both sides. */
function unfold(error: unknown): { readonly text: string; readonly remedy: string | undefined } {
  const texts: string[] = [];
  let remedy: string | undefined;
  const walk = (e: unknown): void => {
    if (e instanceof SuppressedError) {
      walk(e.suppressed);
      walk(e.error);
      return;
    }
    const text = e instanceof Error ? e.message : String(e);
    if (!texts.some(t => t.includes(text))) texts.push(text);
    if (e instanceof ShiftvolError) remedy ??= e.remedy;
    if (e instanceof Error && e.cause !== undefined) walk(e.cause);
  };
  walk(error);
  return { text: texts.join(': ').replaceAll('\n', ' '), remedy };
}

/** The stable form in which errors are told: `--json`, the HTTP API, the bus and the journal. */
export type ErrorReport = {
  readonly code: Code;
  readonly message: string;
  readonly field?: string;
  readonly remedy?: string;
};
export function report(error: unknown): ErrorReport {
  const { code, field } = asError(error);
  const { text, remedy } = unfold(error);
  return {
    code,
    message: text,
    ...(field === undefined ? {} : { field }),
    ...(remedy === undefined ? {} : { remedy }),
  };
}
