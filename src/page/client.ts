/** One who looks: server-sent events, pulled from the feed as fast as he reads them. Nothing is buffered for him beyond one write. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Feed } from './feed.ts';

/** Below the listener's patience with a silent connection. */
const HEARTBEAT_MS = 10_000;
/** Who has not taken one frame in so long is sent away; he may come back for all that is. */
const SLOW_MS = 10_000;
const BEAT = Buffer.from(': still here\n\n');

/** Streams until he goes, or the feed knows no more what he has missed. */
export async function stream(feed: Feed, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { promise: gone, resolve: leave } = Promise.withResolvers<void>();
  response.once('close', leave);
  let sent: number | undefined;
  let blockedAt: number | undefined;

  const pump = (): void => {
    if (response.destroyed || sent === undefined) return;
    const frames = feed.after(sent);
    if (!frames) {
      response.destroy();
      return;
    }
    if (response.writableNeedDrain) {
      blockedAt ??= performance.now();
      return;
    }
    blockedAt = undefined;
    for (const frame of frames) {
      sent = frame.sequence;
      if (!response.write(frame.bytes)) return;
    }
  };

  using _membership = await feed.join(pump);
  if (response.destroyed) return;
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-store' });
  response.on('drain', pump);
  const last = feed.sequenceOf(header(request, 'last-event-id'));
  if (last !== undefined && feed.after(last)) {
    sent = last;
    response.write(BEAT);
  } else {
    const { sequence, bytes } = feed.snapshot();
    sent = sequence;
    response.write(bytes);
  }
  pump();
  const beat = setInterval(() => {
    if (blockedAt === undefined) {
      if (response.writableNeedDrain) blockedAt = performance.now();
      else response.write(BEAT);
    } else if (performance.now() - blockedAt > SLOW_MS) response.destroy();
  }, HEARTBEAT_MS);
  try {
    await gone;
  } finally {
    clearInterval(beat);
  }
}

export function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === 'string' ? value : undefined;
}
