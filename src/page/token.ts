/** Who may do more than look: whoever shows the token. Compared in constant time, and never told. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { ShiftvolError } from '../errors.ts';

/** 32 hex digits and more. */
const FORM = /^[\x21-\x7e]{16,512}$/;

/** Accepts one token. */
export class Token {
  readonly #digest: Buffer;

  constructor(token: string) {
    this.#digest = digestOf(token);
  }

  /** Whether the header `Authorization: Bearer …` has it. */
  isIn(authorization: string | undefined): boolean {
    const [, given] = /^Bearer +([\x21-\x7e]{1,512})$/i.exec(authorization ?? '') ?? [];
    return timingSafeEqual(digestOf(given ?? ''), this.#digest) && given !== undefined;
  }
}

/** A link that opens once: who comes with its secret first is given the token of the session. */
export class OnceLink {
  readonly secret = randomBytes(24).toString('base64url');
  readonly #token: string;
  readonly #expected = new Token(this.secret);
  #isUsed = false;

  /** @param token what is given for it */
  constructor(token: string) {
    this.#token = token;
  }

  /** Undefined: it is another secret, or the link was used. */
  redeem(authorization: string | undefined): string | undefined {
    if (this.#isUsed || !this.#expected.isIn(authorization)) return undefined;
    this.#isUsed = true;
    return this.#token;
  }
}

export function newToken(): string {
  return randomBytes(24).toString('base64url');
}

/**
 * The token in this file; a new one where there is none, mode 0600.
 * @throws SV_CONFIG: others may read or write it, or what is in it is no token
 */
export function readToken(path: string): string {
  makeIfAbsent(path);
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    throw refusal(path, 'it cannot be read', cause);
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw refusal(path, 'it is no file');
    if ((stats.mode & 0o077) !== 0 || stats.uid !== process.geteuid?.())
      throw refusal(path, 'others may read it, mode 0600 and the agent’s own user are accepted');
    const token = stats.size > 4096 ? '' : readFileSync(fd, 'utf8').trim();
    if (!FORM.test(token)) throw refusal(path, 'it has no token in it, 16 to 512 printable characters are accepted');
    return token;
  } finally {
    closeSync(fd);
  }
}

/** Whole or not at all, whoever else does the same. */
function makeIfAbsent(path: string): void {
  const fresh = `${path}.new-${process.pid}`;
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK));
    return;
  } catch (error) {
    if (!isCode(error, 'ENOENT')) return; // reading it says what is wrong
  }
  try {
    const fd = openSync(fresh, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      writeSync(fd, `${newToken()}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    try {
      linkSync(fresh, path);
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error;
    } finally {
      unlinkSync(fresh);
    }
  } catch (cause) {
    throw refusal(path, 'it is not there and cannot be made', cause);
  }
}

function refusal(path: string, what: string, cause?: unknown): ShiftvolError {
  return new ShiftvolError('SV_CONFIG', `Cannot take the token from "${path}": ${what}`, {
    field: 'http.token_file',
    remedy: `remove it, so that a new one is made, or: chmod 600 ${path}`,
    ...(cause === undefined ? {} : { cause }),
  });
}

const isCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;
const digestOf = (text: string): Buffer => createHash('sha256').update(text).digest();
