/** The one question that doctor has for RabbitMQ's management API: which policy really is in effect on our queue. */
import got from 'got';
import * as z from 'zod';

export type Management = { readonly url: string; readonly vhost: string };

const queue = z
  .object({
    name: z.string(),
    type: z.optional(z.string()),
    policy: z.optional(z.nullable(z.string())),
    effective_policy_definition: z.optional(
      z.nullable(z.union([z.record(z.string(), z.unknown()), z.array(z.unknown())])),
    ),
  })
  .transform(q => ({
    name: q.name,
    type: q.type,
    policy: q.policy ?? undefined,
    // RabbitMQ writes an empty one as [].
    effectivePolicy: Array.isArray(q.effective_policy_definition) ? {} : (q.effective_policy_definition ?? {}),
  }));
export type QueueInfo = z.output<typeof queue>;

/** Undefined where there is no such queue (yet). @throws what got throws, without the password */
export async function queueInfo(
  management: Management,
  name: string,
  signal: AbortSignal,
): Promise<QueueInfo | undefined> {
  const base = new URL(management.url);
  const [username, password] = [decodeURIComponent(base.username), decodeURIComponent(base.password)];
  base.username = base.password = '';
  const path = `api/queues/${encodeURIComponent(management.vhost)}/${encodeURIComponent(name)}`;
  const response = await got(new URL(path, base.href.endsWith('/') ? base : `${base.href}/`), {
    username,
    password,
    signal,
    timeout: { request: 5000 },
    retry: { limit: 0 },
    throwHttpErrors: false,
    responseType: 'json',
  });
  if (response.statusCode === 404) return undefined;
  if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}`);
  return queue.parse(response.body);
}
