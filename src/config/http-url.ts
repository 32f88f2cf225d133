/** A URL of HTTP. One that is not accepted is never shown: it may have a password, wherever that was put. */
import { accepting, Misfit, type Reader } from './shape.ts';

/** `credentials`: whether user and password may stand in it. */
export function httpUrl({ accepted, credentials }: { accepted: string; credentials: boolean }): Reader<string> {
  const read: Reader<string> = (value, path) => {
    if (typeof value === 'string' && fits(value, credentials)) return value;
    throw new Misfit(path, `not a URL as it has to be, ${accepted} is accepted`);
  };
  return accepting(read, () => ({ type: 'string', pattern: '^https?://', description: accepted }));
}

function fits(text: string, credentials: boolean): boolean {
  if (!/^https?:\/\/[^\s]+$/.test(text) || !URL.canParse(text)) return false;
  const { username, password, search, hash } = new URL(text);
  return credentials || (username === '' && password === '' && search === '' && hash === '');
}
