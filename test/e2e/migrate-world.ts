/** Two hosts on this machine: state, pool, LXD and ids of their own, which do not overlap. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { needSubids } from '../rig/subuid.ts';
import { makeWorld, type World } from './world.ts';

export type TwoHosts = AsyncDisposable & { readonly a: World; readonly b: World };

export async function makeTwoHosts(): Promise<TwoHosts> {
  await using scope = new AsyncDisposableStack();
  scope.use(needSubids(['shiftvol-b:9437184:655360']));
  const a = scope.use(await makeWorld());
  const b = scope.use(await makeWorld());
  const config = join(b.dir, 'b.yaml');
  writeFileSync(config, 'host: node2\nsubid_owner: shiftvol-b\n');
  b.env['SHIFTVOL_HOST'] = 'node2';
  b.env['SHIFTVOL_CONFIG'] = config;
  const kept = scope.move();
  return { a, b, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}
