import { lstatSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Source } from '../engine/model.ts';
import { ShiftvolError } from '../errors.ts';

/** `sizeBytes`: of a snapshot, where it is to be larger than its template. */
type VolumeOptions = { readonly snapshot: boolean; readonly idBase?: number; readonly sizeBytes?: number };
/** A volume of Cinder, which has to be exported to this host first. */
export type CinderSource = { readonly kind: 'cinder'; readonly volume: string; readonly idBase?: number };
export type VolumeArgument = {
  readonly source: Source | CinderSource;
  readonly target: string;
  readonly readOnly: boolean;
};

const CINDER = 'cinder:';

/**
 * `SOURCE:TARGET[:ro|:rw]`, in the manner of podman's -v. SOURCE is a path (a block device or a raw image), or with `snapshot` a
 * template's name, or `cinder:VOLUME`. A SOURCE may have colons in it: TARGET begins at the last `:/`.
 * @throws SV_USAGE
 */
export function parseVolume(text: string, options: VolumeOptions): VolumeArgument {
  const mode = /:(ro|rw)$/.exec(text)?.[1];
  const rest = mode === undefined ? text : text.slice(0, -3);
  const colon = rest.lastIndexOf(':/');
  const target = rest.slice(colon + 1);
  const refuse = (accepted: string): never => {
    throw new ShiftvolError('SV_USAGE', `Cannot read ${JSON.stringify(text)}: ${accepted}`, {
      field: 'volume',
      remedy: 'write for example /srv/vol.raw:/mnt/data',
    });
  };
  if (colon < 1) refuse('accepted is SOURCE:TARGET or SOURCE:TARGET:ro, with an absolute TARGET');
  // Most likely a mode that is none of ours, as ":RO": it must not come to be written to.
  if (target.includes(':')) refuse('after TARGET ":ro" or ":rw" is accepted, and no colon in it');
  return { source: sourceOf(rest.slice(0, colon), options), target, readOnly: mode === 'ro' };
}

function sourceOf(text: string, options: VolumeOptions): Source | CinderSource {
  const { snapshot, idBase, sizeBytes } = options;
  if (snapshot) {
    if (!text.includes('/')) return { kind: 'template', template: text, ...(sizeBytes !== undefined && { sizeBytes }) };
    throw new ShiftvolError(
      'SV_USAGE',
      `Cannot take a snapshot of ${JSON.stringify(text)}: that is a path, a template's name is accepted`,
      {
        field: 'volume',
        remedy:
          'import it first ("shiftvol template import NAME --from PATH"), or leave --snapshot out to attach it as it is',
      },
    );
  }
  if (sizeBytes !== undefined)
    throw new ShiftvolError('SV_USAGE', `Cannot choose the size of ${JSON.stringify(text)}: it is attached as it is`, {
      field: '--size',
      remedy: 'attach it, then "shiftvol extend" it',
    });
  if (text.startsWith(CINDER) && text.length > CINDER.length)
    return { kind: 'cinder', volume: text.slice(CINDER.length), ...(idBase !== undefined && { idBase }) };
  if (!text.includes('/'))
    throw new ShiftvolError('SV_USAGE', `Cannot attach ${JSON.stringify(text)} as it is: that is no path`, {
      field: 'volume',
      remedy: 'add --snapshot to attach a snapshot of the template of this name, or write ./NAME for a file',
    });
  const path = resolve(text);
  const kind = statSync(path, { throwIfNoEntry: false })?.isBlockDevice() ? 'device' : 'file';
  // A name of a device, as below /dev/disk, is one; the way to a file may be changed by whoever may change the link.
  if (kind === 'file' && lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink())
    throw new ShiftvolError(
      'SV_IMAGE_REFUSED',
      `Cannot use "${path}" as an image: it is a symbolic link, accepted is a regular file`,
      { field: 'volume', remedy: `name the file itself: "realpath ${path}" says where it is` },
    );
  return { kind, path, ...(idBase !== undefined && { idBase }) };
}

/**
 * `INSTANCE`, `INSTANCE TARGET` or `INSTANCE:TARGET`: the instance's name has no colon before a slash.
 * @throws SV_USAGE: two targets
 */
export function parsePlace(text: string, target?: string): { readonly instance: string; readonly target?: string } {
  const colon = text.indexOf(':/');
  if (colon < 0) return { instance: text, ...(target !== undefined && { target }) };
  const within = text.slice(colon + 1);
  if (target !== undefined && target !== within)
    throw new ShiftvolError('SV_USAGE', `Cannot tell which target is meant: "${within}" and "${target}" are given`, {
      field: 'target',
      remedy: 'write INSTANCE TARGET, or INSTANCE:TARGET',
    });
  return { instance: text.slice(0, colon), target: within };
}
