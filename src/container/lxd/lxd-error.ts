import { ShiftvolError } from '../../errors.ts';

/** LXD did not do what was asked; its own words are the text. */
export class LxdError extends ShiftvolError {
  /** HTTP status, or that of the operation. 0: there was no answer. */
  readonly status: number;

  constructor(status: number, message: string, facts: { readonly remedy?: string; readonly cause?: unknown } = {}) {
    super('SV_RUNTIME', message, facts);
    this.name = 'LxdError';
    this.status = status;
  }
}
