/** How the engine's answers about id ranges read in a terminal. */
import { z } from 'zod';
import { table } from './output.ts';

const range = z.object({ start: z.number(), count: z.number() });
const allocation = z.object({ instance: z.string(), uid: range, gid: range });
const list = z.object({
  allocations: z.array(allocation),
  used: z.array(range.extend({ kind: z.enum(['uid', 'gid']), owner: z.string() })),
});

/** `{instance, uid, gid, ...}` */
export function allocationText(answer: unknown): string {
  const { instance, uid, gid } = allocation.parse(answer);
  return `${instance}: uids ${ids(uid)}, gids ${ids(gid)}`;
}

/** `{released, ...}`: whether there was anything to give back. */
export function releaseText(answer: unknown): string {
  return z.object({ released: z.boolean() }).parse(answer).released ? 'given back' : 'nothing to give back';
}

/** `{allocations, used}`: ours, then what the runtimes and live user namespaces have. */
export function listText(answer: unknown): string {
  const { allocations, used } = list.parse(answer);
  const rows = [
    ...allocations.flatMap(a => [
      [a.instance, 'uid', ids(a.uid)],
      [a.instance, 'gid', ids(a.gid)],
    ]),
    ...used.map(u => [u.owner, u.kind, ids(u)]),
  ];
  return table(['OWNER', 'KIND', 'HOST IDS'], rows);
}

function ids({ start, count }: z.infer<typeof range>): string {
  return `${start}-${start + count - 1}`;
}
