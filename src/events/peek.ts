/**
 * What a notification is, read off its bytes: two of three on the bus are of events that do nothing here (40 % are instance.update), and
 * parsing JSON twice to throw it away is what a host of a large cloud would do all day. Pure.
 */

const KEY = Buffer.from('event_type');
const [QUOTE, BACKSLASH, COLON, SPACE] = [0x22, 0x5c, 0x3a, 0x20];
const NAME_AT_MOST = 255;

/**
 * True where the message is certainly of no event that `acts`: every `event_type` in it, at whatever depth, is a key with the plain name of
 * one that does not. False where that cannot be said: it has to be parsed. A message that is not well-formed may pass for noise; it would
 * have done nothing either.
 */
export function isNoise(body: Buffer, acts: (event: string) => boolean): boolean {
  let found = false;
  for (let at = body.indexOf(KEY); at >= 0; at = body.indexOf(KEY, at + KEY.length)) {
    const name = valueAfter(body, at + KEY.length);
    if (name === undefined || acts(name)) return false;
    found = true;
  }
  return found;
}

/** The text in `": "NAME"`, the quotes plain or escaped (the message is a text in the envelope); undefined for anything else. */
function valueAfter(body: Buffer, start: number): string | undefined {
  let at = start;
  const quote = () => {
    if (body[at] === BACKSLASH) at++;
    return body[at++] === QUOTE;
  };
  if (!quote() || body[at++] !== COLON) return undefined;
  if (body[at] === SPACE) at++;
  if (!quote()) return undefined;
  const from = at;
  while (at - from <= NAME_AT_MOST && isNameByte(body[at])) at++;
  const name = body.toString('latin1', from, at);
  return quote() ? name : undefined;
}

/** a-z, 0-9, "_", "." and "-": what event types are made of; nothing that JSON could write in another way. */
function isNameByte(byte: number | undefined): boolean {
  if (byte === undefined) return false;
  return (
    (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39) || byte === 0x2e || byte === 0x5f || byte === 0x2d
  );
}
