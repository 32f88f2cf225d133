/** How the engine's answers about id ranges read in a terminal. */
import { z } from 'zod';
import { table } from './output.ts';

const range = z.object({ start: z.number(), count: z.number() });
const allocation = z.object({ instance: z.string(), uid: range, gid: range, dryRun: z.boolean() });
const released = z.object({ instance: z.string(), released: z.boolean(), dryRun: z.boolean() });
const list = z.object({ ranges: z.array(range.extend({ kind: z.enum(['uid', 'gid']), owner: z.string() })) });

export function allocationText(answer: unknown): string {
  const { instance, uid, gid, dryRun } = allocation.parse(answer);
  return `${instance} ${dryRun ? 'would get' : 'has'} uids ${ids(uid)} and gids ${ids(gid)}`;
}

export function releaseText(answer: unknown): string {
  const { instance, released: some, dryRun } = released.parse(answer);
  if (!some) return `${instance} has no ids of its own`;
  return dryRun ? `${instance} would give its ids back` : `${instance} has given its ids back`;
}

export function listText(answer: unknown): string {
  const sorted = list.parse(answer).ranges.toSorted((a, b) => a.start - b.start || (a.kind < b.kind ? 1 : -1));
  return table(
    ['HOST IDS', 'KIND', 'COUNT', 'OWNER'],
    sorted.map(r => [ids(r), r.kind, `${r.count}`, r.owner]),
  );
}

function ids({ start, count }: z.infer<typeof range>): string {
  return count === 1 ? `${start}` : `${start}-${start + count - 1}`;
}
