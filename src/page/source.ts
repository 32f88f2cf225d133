import type { Run } from '../engine/recent-runs.ts';
import type { AttachmentView } from '../http/view.ts';
import type { DeadLetterFacts } from './dead-letters.ts';
import type { Claim } from './id-space.ts';
import type { TemplateRow } from './rows.ts';

/** Where the page has its facts from: an engine in this process, the agent's socket, or the files. Called while somebody looks, only. */
export type PageSource = {
  readonly host: string;
  /** Of these instances, or all. */
  attachments(instances: ReadonlySet<string> | 'all', signal: AbortSignal): Promise<readonly AttachmentView[]>;
  /** All that is remembered. */
  runs(signal: AbortSignal): Promise<readonly Run[]>;
  claims(signal: AbortSignal): Promise<readonly Claim[]>;
  templates(signal: AbortSignal): Promise<readonly TemplateRow[]>;
  /** Absent where there is no broker. */
  readonly deadLetters?: DeadLetterSource;
  /** Calls back with the instance whose attachments may be others by now, or with none where that is not known. */
  watch(changed: (instance?: string) => void): Disposable;
};

export type DeadLetterSource = {
  list(signal: AbortSignal): Promise<readonly DeadLetterFacts[]>;
  /** Ids that went, and what stays with why. */
  replay(ids: readonly string[], signal: AbortSignal): Promise<DeadLetterResult>;
  drop(ids: readonly string[], signal: AbortSignal): Promise<DeadLetterResult>;
};
export type DeadLetterResult = {
  readonly done: readonly string[];
  readonly kept: readonly { readonly id: string; readonly why: string }[];
};
