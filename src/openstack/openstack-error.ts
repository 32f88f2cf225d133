/** What an OpenStack service said instead of doing what was asked. */
import { type Code, ShiftvolError } from '../errors.ts';

export type OpenstackFacts = {
  /** HTTP status. 0: there was no answer. */
  readonly status: number;
  /** The service's id of this request, by which its log tells the reason. */
  readonly requestId?: string | undefined;
  readonly field?: string;
  readonly remedy?: string;
  readonly cause?: unknown;
};

export class OpenstackError extends ShiftvolError {
  readonly status: number;
  readonly requestId: string | undefined;

  constructor(code: Code, message: string, { status, requestId, ...facts }: OpenstackFacts) {
    super(code, requestId === undefined ? message : `${message} (${requestId})`, facts);
    this.name = 'OpenstackError';
    this.status = status;
    this.requestId = requestId;
  }
}

export function codeOf(status: number): Code {
  if (status === 401) return 'SV_OPENSTACK_AUTH';
  if (status === 404 || status === 410) return 'SV_OPENSTACK_NOT_FOUND';
  if (status === 409) return 'SV_OPENSTACK_CONFLICT';
  if (status === 408 || status === 429 || status >= 500 || status < 400) return 'SV_OPENSTACK';
  return 'SV_OPENSTACK_REFUSED';
}

/** The words of an error answer: each service has a form of its own. Short, one line; undefined where there are none. */
export function wordsOf(body: string): string | undefined {
  const words = fromJson(body) ?? fromHtml(body);
  const line = words?.replaceAll(/[\s\p{Cc}]+/gu, ' ').trim();
  if (line === undefined || line === '') return undefined;
  return (line.length > 300 ? `${line.slice(0, 297)}...` : line).replace(/\.$/, '');
}

/** `{"error": {"message"}}` (Keystone), `{"itemNotFound": {"message"}}` (Cinder, Nova), `{"message"}`. */
function fromJson(body: string): string | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return undefined;
  }
  if (!isRecord(parsed)) return undefined;
  for (const part of [parsed, ...Object.values(parsed)])
    if (isRecord(part) && typeof part['message'] === 'string') return part['message'];
  return undefined;
}

/** Glance answers with a page: its title, and a sentence below. */
function fromHtml(body: string): string | undefined {
  if (!/<html/i.test(body.slice(0, 1000))) return undefined;
  const text = body
    .slice(0, 20_000)
    .replaceAll(/<head[\s\S]*?<\/head>/gi, ' ')
    .replaceAll(/<[^>]*>/g, ' ')
    .replaceAll('&nbsp;', ' ')
    .replaceAll('&#x27;', "'")
    .replaceAll('&#39;', "'")
    .replaceAll('&quot;', '"')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&');
  return text;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
