/** A conversation with a real OpenStack, as a file: recorded once by ../../openstack/record.ts, played back by replay.ts. */
import { readFileSync } from 'node:fs';

export const FOLDER = new URL('../../fixtures/openstack/', import.meta.url);

/** Stands in the file where the address of the server was. */
export const ORIGIN = '{origin}';
/** First part of a path: which service was meant. */
export const PREFIXES = ['identity', 'image', 'volume', 'compute'] as const;
export type Prefix = (typeof PREFIXES)[number];

export type Exchange = {
  readonly method: string;
  /** `/image/v2/images?name=x` */
  readonly path: string;
  /** Those that decide: microversion, range, whether a service token was there. */
  readonly headers: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly answer: {
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly text?: string;
    /** Where it is no text. */
    readonly base64?: string;
  };
};
export type Conversation = {
  readonly recorded: string;
  readonly of: string;
  readonly exchanges: readonly Exchange[];
};

export function readConversation(name: string): Conversation {
  return JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), 'utf8'));
}

/** What of a request is compared and kept. */
export const REQUEST_HEADERS = ['openstack-api-version', 'range', 'content-type'] as const;
export const ANSWER_HEADERS = [
  'content-type',
  'content-range',
  'content-length',
  'x-openstack-request-id',
  'x-subject-token',
  'openstack-api-version',
  'retry-after',
  'location',
] as const;
