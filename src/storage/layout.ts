/** Where everything lies in a pool, and which names are accepted. Pure. */
import { join } from 'node:path';
import { ShiftvolError } from '../errors.ts';

const NAME = /^[a-z0-9_-][a-z0-9._-]{0,63}$/;
const ACCEPTED = 'accepted are 1 to 64 of a-z, 0-9, ".", "_" and "-", not beginning with "."';

/**
 * `templates/NAME/{image,template.json}`, `snapshots/TEMPLATE/ID`, `spares/ID`, `saved/ATTACHMENT/NAME` and `incoming/ATTACHMENT/`. A template's snapshots have a directory of their own, so that
 * "is it in use?" is one rmdir(2). Names that begin with a dot are never templates: the lock and what is being made or removed.
 */
export type Layout = {
  readonly poolDir: string;
  readonly templates: string;
  readonly snapshots: string;
  /** Snapshots that were made before anybody asked for them. */
  readonly spares: string;
  readonly lock: string;
  templateDir(name: string): string;
  image(name: string): string;
  metadata(name: string): string;
  snapshotDir(template: string): string;
  snapshot(name: string): string;
  /** Saved snapshots of attachments. */
  readonly saved: string;
  savedDir(attachment: string): string;
  savedImage(attachment: string, name: string): string;
  /** One that is being made. */
  unnamedImage(attachment: string, name: string): string;
  /** What comes from other hosts, until it is an attachment's. */
  readonly incoming: string;
  incomingDir(attachment: string): string;
};

export function layout(poolDir: string): Layout {
  const templates = join(poolDir, 'templates');
  const snapshots = join(poolDir, 'snapshots');
  const saved = join(poolDir, 'saved');
  const incoming = join(poolDir, 'incoming');
  return {
    poolDir,
    templates,
    snapshots,
    spares: join(poolDir, 'spares'),
    lock: join(templates, '.lock'),
    templateDir: name => join(templates, templateName(name)),
    image: name => join(templates, templateName(name), 'image'),
    metadata: name => join(templates, templateName(name), 'template.json'),
    snapshotDir: template => join(snapshots, templateName(template)),
    snapshot: name => join(snapshots, ...snapshotParts(name)),
    saved,
    savedDir: attachment => join(saved, attachment),
    savedImage: (attachment, name) => join(saved, attachment, savedName(name)),
    unnamedImage: (attachment, name) => join(saved, attachment, `.new-${savedName(name)}`),
    incoming,
    incomingDir: attachment => join(incoming, attachment),
  };
}

/** The name, if it is one. @throws SV_USAGE */
export function templateName(name: string): string {
  if (!NAME.test(name))
    throw new ShiftvolError('SV_USAGE', `Cannot use the template name ${JSON.stringify(name)}: ${ACCEPTED}`, {
      field: 'template',
    });
  return name;
}

/** The name of a saved snapshot, if it is one. @throws SV_USAGE */
export function savedName(name: string): string {
  if (!NAME.test(name))
    throw new ShiftvolError('SV_USAGE', `Cannot use the snapshot name ${JSON.stringify(name)}: ${ACCEPTED}`, {
      field: 'name',
    });
  return name;
}

/** `TEMPLATE/ID` in its two parts. @throws SV_USAGE */
export function snapshotParts(name: string): readonly [template: string, id: string] {
  const [template, id, ...more] = name.split('/');
  if (template === undefined || id === undefined || more.length > 0 || !NAME.test(template) || !NAME.test(id))
    throw new ShiftvolError(
      'SV_USAGE',
      `Cannot use the snapshot name ${JSON.stringify(name)}: it is TEMPLATE/ID, and for both ${ACCEPTED}`,
      { field: 'snapshot' },
    );
  return [template, id];
}
