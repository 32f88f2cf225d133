/** An image as Glance v2 describes it. */
import { z } from 'zod';

export const IMAGE_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

const size = z.int().nonnegative().nullish();
const label = z.string().max(255).nullish();
export const imageShape = z
  .looseObject({
    id: z.string().regex(IMAGE_ID),
    name: z.string().nullish(),
    status: z.string(),
    visibility: z.string().nullish(),
    disk_format: label,
    container_format: label,
    size,
    virtual_size: size,
    min_disk: size,
    checksum: z.string().nullish(),
    os_hash_algo: z.string().nullish(),
    os_hash_value: z.string().nullish(),
    updated_at: z.string().nullish(),
  })
  .transform(i => ({
    id: i.id.toLowerCase(),
    name: i.name ?? undefined,
    status: i.status,
    visibility: i.visibility ?? undefined,
    diskFormat: i.disk_format ?? undefined,
    containerFormat: i.container_format ?? undefined,
    sizeBytes: i.size ?? undefined,
    /** Of the disk in it, where Glance knows. */
    virtualBytes: i.virtual_size ?? undefined,
    /** Gibibytes. */
    minDisk: i.min_disk ?? 0,
    digest: digestOf(i),
    updatedAt: i.updated_at ?? undefined,
    properties: propertiesOf(i),
  }));
export type Image = Readonly<z.output<typeof imageShape>>;

/** What the bytes must hash to. */
export type Digest = { readonly algorithm: string; readonly hex: string };

type Hashes = {
  readonly os_hash_algo?: string | null | undefined;
  readonly os_hash_value?: string | null | undefined;
  readonly checksum?: string | null | undefined;
};

/** Images from before Glance 17 have an MD5 sum alone. Those whose bytes never passed through Glance (a location was added) have nothing. */
function digestOf({ os_hash_algo, os_hash_value, checksum }: Hashes): Digest | undefined {
  if (os_hash_algo && os_hash_value) return { algorithm: os_hash_algo.toLowerCase(), hex: os_hash_value.toLowerCase() };
  return checksum ? { algorithm: 'md5', hex: checksum.toLowerCase() } : undefined;
}

/** Names of Glance's own, which are no properties of the image. */
const BASE = new Set(
  'id name status visibility protected owner tags locations direct_url self file schema size virtual_size min_disk min_ram checksum disk_format container_format created_at updated_at os_hidden os_hash_algo os_hash_value stores validation_data'.split(
    ' ',
  ),
);

function propertiesOf(image: Record<string, unknown>): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(image).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string' && !BASE.has(entry[0]),
    ),
  );
}
