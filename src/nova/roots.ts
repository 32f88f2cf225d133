/** Root file systems: a snapshot of an image's template, or a volume. */
import { ShiftvolError } from '../errors.ts';
import type { ImageTemplates } from './images.ts';
import { refOf, requireFlavor } from './instances.ts';
import type { NovaImage, NovaInstance, VolumeMapping } from './model.ts';
import type { Call, Nova } from './ports.ts';
import { infoOf, volumeHere } from './volumes.ts';

const GIB = 2 ** 30;

export type Root =
  | { readonly kind: 'template'; readonly template: string; readonly sizeBytes?: number }
  | { readonly kind: 'volume'; readonly volume: VolumeMapping };

/**
 * What the instance boots from. The image's template is made if this host has none.
 * @throws SV_USAGE: neither image nor volume, or the flavor's disk is smaller than the image; what an import throws
 */
export async function chooseRoot(
  templates: ImageTemplates,
  instance: NovaInstance,
  image: NovaImage,
  boot: VolumeMapping | undefined,
  { signal }: Call,
): Promise<Root> {
  if (boot) return { kind: 'volume', volume: boot };
  if (image.id === undefined)
    throw new ShiftvolError(
      'SV_USAGE',
      `Cannot boot "${instance.name}": there is neither an image nor a volume to boot from`,
      {
        field: 'image_meta.id',
      },
    );
  const { template, sizeBytes } = await templates.ready(image.id, signal);
  return { kind: 'template', template, ...grown(instance, Math.max(sizeBytes, image.minDisk * GIB), sizeBytes) };
}

/** @throws SV_USAGE */
function grown(instance: NovaInstance, leastBytes: number, templateBytes: number): { readonly sizeBytes?: number } {
  const { rootGb, name } = requireFlavor(instance);
  // Flavors without a disk of their own take what the image has.
  const wanted = rootGb === 0 ? leastBytes : rootGb * GIB;
  if (wanted < leastBytes)
    throw new ShiftvolError(
      'SV_USAGE',
      `Cannot boot "${instance.name}": the root disk of flavor "${name}" has ${rootGb} GiB, the image needs ${Math.ceil((leastBytes / GIB) * 100) / 100} GiB`,
      {
        field: 'instance.flavor.root_gb',
        remedy: 'choose a flavor with a larger disk, or with 0 for the size of the image',
      },
    );
  return wanted > templateBytes ? { sizeBytes: wanted } : {};
}

/** Makes and mounts it where the container will look for it. There already is success. */
export async function mountRoot(nova: Nova, instance: NovaInstance, root: Root, { signal }: Call): Promise<void> {
  const ref = refOf(instance);
  if (root.kind === 'template') {
    const { template, sizeBytes } = root;
    const source = { kind: 'template', template, ...(sizeBytes === undefined ? {} : { sizeBytes }) } as const;
    await nova.engine.execute({ action: 'spawn', instance: ref, source }, signal);
    return;
  }
  const volumeId = volumeHere(nova, instance, root.volume.volumeId);
  const { connection, secrets } = await nova.connectors.read(infoOf(root.volume, volumeId));
  const source = { kind: 'connection', connection } as const;
  await nova.engine.execute({ action: 'spawn', instance: ref, source, volumeId, secrets }, signal);
}
