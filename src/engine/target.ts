import { ShiftvolError } from '../errors.ts';

/** PATH_MAX with its NUL is 4096, a name has at most 255 bytes (limits.h). */
const MAX_BYTES = 4095;
const MAX_NAME_BYTES = 255;
/** The runtime's own mounts: it would mount over them, or they over ours, at the next start. */
const RESERVED = ['/proc', '/sys', '/dev'] as const;

const ACCEPTED = 'an absolute path without "//", "." and ".." and without a slash at its end is accepted';

/**
 * Where in a container a volume may be mounted; returned as it is. Pure: what the container has there is another question.
 * @throws SV_TARGET_INVALID
 */
export function requireTarget(text: string): string {
  const refuse = (what: string, accepted: string = ACCEPTED) => {
    throw new ShiftvolError('SV_TARGET_INVALID', `Cannot mount at ${JSON.stringify(text)}: ${what}, ${accepted}`, {
      field: 'target',
      remedy: 'choose a path like "/mnt/data"',
    });
  };
  if (text === '') refuse('it is empty');
  if (!text.startsWith('/')) refuse('it is not absolute');
  // Newlines and the like would have to be escaped in the container's fstab and mountinfo, and end up in logs.
  if (/\p{Cc}/u.test(text)) refuse('it has a control character', 'printable characters are accepted');
  if (!text.isWellFormed()) refuse('it is not Unicode', 'paths in UTF-8 are accepted');
  if (text === '/') refuse('that is the root file system itself', 'a directory below it is accepted');
  if (text.endsWith('/')) refuse('it ends with a slash');
  const names = text.slice(1).split('/');
  for (const name of names)
    if (name === '' || name === '.' || name === '..') refuse(`it has ${name === '' ? '"//"' : `"${name}"`} in it`);
  for (const name of names)
    if (Buffer.byteLength(name) > MAX_NAME_BYTES)
      refuse(`a name has ${Buffer.byteLength(name)} bytes`, `${MAX_NAME_BYTES} bytes are accepted`);
  if (Buffer.byteLength(text) > MAX_BYTES)
    refuse(`it has ${Buffer.byteLength(text)} bytes`, `${MAX_BYTES} bytes are accepted`);
  const reserved = RESERVED.find(path => text === path || text.startsWith(`${path}/`));
  if (reserved !== undefined)
    refuse(`${reserved} belongs to the runtime`, 'a path outside /proc, /sys and /dev is accepted');
  return text;
}
