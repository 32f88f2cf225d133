/** What the page is told, as rows: short, without what only root may know, and with every text cut to a bound. Pure. */
import { sourceName } from '../engine/model.ts';
import type { Run } from '../engine/recent-runs.ts';
import type { ErrorReport } from '../errors.ts';
import type { AttachmentView } from '../http/view.ts';
import { printIdmap } from '../idmap/print.ts';

/** Longer ones come from somebody who wants to be a nuisance: PATH_MAX is 4096. */
const MOST_TEXT = 4096;

/** Without where it is mounted: that a root's directory cannot be guessed is part of its protection. */
export type AttachmentRow = {
  readonly id: string;
  readonly instance: string;
  readonly project?: string;
  readonly target: string;
  readonly role: 'root' | 'volume';
  readonly from: { readonly kind: string; readonly name: string };
  readonly state: string;
  readonly readOnly: boolean;
  readonly volumeId?: string;
  readonly device?: string;
  readonly fsType?: string;
  /** On-disk id -> host id, as `b:0:1000000:65536`. */
  readonly map: string;
  readonly error?: ErrorReport;
  readonly createdAt: string;
  readonly updatedAt: string;
};

export function attachmentRow(view: AttachmentView): AttachmentRow {
  const { id, role, state, readOnly, fsType, createdAt, updatedAt } = view;
  return {
    id,
    instance: cut(view.instance),
    ...(view.project !== undefined && { project: cut(view.project) }),
    target: cut(view.target),
    role,
    from: { kind: view.source.kind, name: cut(sourceName(view.source)) },
    state,
    readOnly,
    ...(view.volumeId !== undefined && { volumeId: cut(view.volumeId) }),
    ...(view.device !== undefined && { device: cut(view.device) }),
    ...(fsType !== undefined && { fsType }),
    map: cut(printIdmap(view.extents, 'mount')),
    ...(view.error && { error: cutError(view.error) }),
    createdAt,
    updatedAt,
  };
}

export function runRow(run: Run): Run {
  return {
    ...run,
    instance: cut(run.instance),
    ...(run.target !== undefined && { target: cut(run.target) }),
    steps: run.steps.map(step => ({ ...step, ...(step.failed !== undefined && { failed: cut(step.failed) }) })),
    ...(run.error && { error: cutError(run.error) }),
  };
}

/** `sharedBytes`: of the image and another file; `exclusiveBytes`: of the image alone. */
export type Sharing = { readonly exclusiveBytes: number; readonly sharedBytes: number };
export type TemplateRow = {
  readonly name: string;
  readonly fsType: string;
  readonly sizeBytes: number;
  readonly idBase: number;
  readonly createdAt: string;
  readonly image: Sharing;
  /** Of all its snapshots together; `measured`: how many of them were looked at. */
  readonly snapshots: Sharing & { readonly count: number; readonly measured: number };
};

export function cut(text: string): string {
  return text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT - 1)}…` : text;
}

function cutError({ code, message, field, remedy }: ErrorReport): ErrorReport {
  return {
    code,
    message: cut(message),
    ...(field !== undefined && { field: cut(field) }),
    ...(remedy !== undefined && { remedy: cut(remedy) }),
  };
}
