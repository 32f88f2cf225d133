/** An image of Glance as what a template can be made from. */
import type { Readable } from 'node:stream';
import { ShiftvolError } from '../errors.ts';
import type { Glance, Image } from './glance.ts';

export type ImageFormat = 'raw' | 'qcow2' | 'tar';
export type ImageSource = {
  readonly image: Image;
  readonly format: ImageFormat;
  readonly sizeBytes: number | undefined;
  open(signal: AbortSignal): Promise<Readable>;
};

/** `root-tar` is what clouds of containers add to Glance's list. */
const FORMATS: ReadonlyMap<string | undefined, ImageFormat> = new Map([
  ['raw', 'raw'],
  ['qcow2', 'qcow2'],
  ['root-tar', 'tar'],
]);

/**
 * What Glance says goes, not what the bytes look like: a raw image whose owner writes a qcow2 header into it could name files of this
 * host. `asked: 'tar'`: archives are often uploaded as raw.
 * @throws SV_IMAGE_REFUSED: of a format that is not accepted
 */
export function imageSource(glance: Glance, image: Image, asked: ImageFormat | 'auto' = 'auto'): ImageSource {
  const { name, id, diskFormat, containerFormat, sizeBytes } = image;
  const told = FORMATS.get(diskFormat);
  const refuse = (field: string, is: string, accepted: string): ShiftvolError =>
    new ShiftvolError('SV_IMAGE_REFUSED', `Cannot import the image ${name ?? id}: its ${field} is ${is}, ${accepted}`, {
      field: field,
      remedy: 'convert it ("qemu-img convert -O qcow2"), and upload it again',
    });
  if (containerFormat !== undefined && containerFormat !== 'bare')
    throw refuse('container_format', containerFormat, 'bare is accepted');
  if (told === undefined)
    throw refuse('disk_format', diskFormat ?? 'not set', `${[...FORMATS.keys()].join(', ')} are accepted`);
  if (asked !== 'auto' && asked !== told && !(asked === 'tar' && told === 'raw'))
    throw new ShiftvolError('SV_USAGE', `Cannot read the image ${name ?? id} as ${asked}: Glance says it is ${told}`, {
      field: 'format',
    });
  const format = asked === 'auto' ? told : asked;
  return { image, format, sizeBytes, open: signal => glance.download(image, signal) };
}
