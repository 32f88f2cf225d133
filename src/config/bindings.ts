/**
 * Which image is which template, and which volume is which device, file or template. The only way from a message to a path: a
 * message contributes uuids that were checked, and they are put into the placeholders of a pattern that was checked here.
 */
import {
  accepting,
  boolean,
  jsonSchemaOf,
  type KeyPath,
  Misfit,
  nullable,
  object,
  type Reader,
  size,
  string,
} from './shape.ts';

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const TEMPLATE_NAME = /^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/i;

/** Puts checked values into `{names}`. A name that is not given stays: `checkPattern` made sure that there is none. */
export function fill(pattern: string, values: Readonly<Record<string, string>>): string {
  return pattern.replace(/\{([a-z_]+)\}/g, (whole, name: string) =>
    Object.hasOwn(values, name) ? (values[name] ?? whole) : whole,
  );
}

/** Uuids only, in lower case as OpenStack writes them; "*" stands for all. */
const uuidOrAll = string({ pattern: new RegExp(`${UUID.source}|^\\*$`), accepted: 'a uuid in lower case or "*"' });

const SAMPLE = '00000000-0000-4000-8000-000000000000';

/** A text with `{names}` of `allowed`; filled with uuids it must be what `accepted` says. */
function pattern(
  allowed: readonly string[],
  fits: (filled: string) => boolean,
  accepted: string,
  fallback?: string,
): Reader<string> {
  const read = string({ ...(fallback === undefined ? {} : { fallback }), accepted });
  const checked: Reader<string> = (value, path) => {
    const text = read(value, path);
    const filled = fill(text, Object.fromEntries(allowed.map(name => [name, SAMPLE])));
    if (/[{}]/.test(filled))
      throw new Misfit(path, `"${text}", the placeholders ${allowed.map(n => `{${n}}`).join(', ')} are accepted`);
    if (!fits(filled)) throw new Misfit(path, `"${text}", ${accepted} is accepted`);
    return text;
  };
  return accepting(checked, () => jsonSchemaOf(read));
}

const isNormalPath = (text: string) =>
  text.length < 4096 && /^\/[^\0]*[^/\0]$/.test(text) && !/\/\/|\/\.{1,2}(\/|$)/.test(text);
const templatePattern = (allowed: readonly string[]) =>
  pattern(
    allowed,
    text => TEMPLATE_NAME.test(text),
    'the name of a template (letters, digits, ".", "_" and "-", at most 64)',
  );
const VOLUME_NAMES = ['volume_id', 'instance_uuid'] as const;

export const imageBinding = object({
  image: uuidOrAll,
  template: templatePattern(['image_uuid', 'instance_uuid']),
  size: nullable(size()),
});

const volumeFields = object({
  volume: uuidOrAll,
  template: nullable(templatePattern(VOLUME_NAMES)),
  device: nullable(
    pattern(VOLUME_NAMES, text => isNormalPath(text) && text.startsWith('/dev/'), 'an absolute path below /dev'),
  ),
  file: nullable(pattern(VOLUME_NAMES, isNormalPath, 'an absolute path without "//", "." and ".."')),
  target: pattern(VOLUME_NAMES, isNormalPath, 'an absolute path without "//", "." and ".."', '/mnt/{volume_id}'),
  read_only: boolean(false),
  size: nullable(size()),
});

export type VolumeBinding = ReturnType<typeof volumeFields>;

export const volumeBinding: Reader<VolumeBinding> = (value: unknown, path: KeyPath) => {
  const binding = volumeFields(value, path);
  const sources = [binding.template, binding.device, binding.file].filter(s => s !== null);
  if (sources.length !== 1)
    throw new Misfit(path, `${sources.length} sources, exactly one of template, device, file is accepted`);
  if (binding.size !== null && binding.template === null)
    throw new Misfit([...path, 'size'], 'a size for something that exists, it is accepted with template only');
  return binding;
};
accepting(volumeBinding, () => ({
  ...jsonSchemaOf(volumeFields),
  oneOf: ['template', 'device', 'file'].map(source => ({
    required: [source],
    properties: { [source]: { type: 'string' } },
  })),
}));
