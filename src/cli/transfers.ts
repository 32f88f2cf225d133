/** How instances get from this host to another, and here from there: what configuration says, put together. */
import type { Config } from '../config/schema.ts';
import { ShiftvolError } from '../errors.ts';
import type { Log } from '../log/log.ts';
import { Departures } from '../migrate/departures.ts';
import { FirstPasses } from '../migrate/first-passes.ts';
import { cleanIncoming } from '../migrate/incoming.ts';
import { lendFrom } from '../migrate/lend.ts';
import { listenForFetches } from '../migrate/listener.ts';
import { type Offer, Offers } from '../migrate/offers.ts';
import type { Peers } from '../migrate/peers.ts';
import { makeTransfer, type Transfer } from '../migrate/transfer.ts';
import type { Host } from './assemble.ts';

export type Transfers = AsyncDisposable & {
  readonly transfer: Transfer;
  readonly departures: Departures;
};

/** Listens where something is to leave this host. Disposing ends what is under way: other hosts try again. @throws SV_CONFIG */
export async function openTransfers(
  { migration, stateDir, poolDir }: Config,
  { engine }: Host,
  peers: Peers,
  log: Log,
): Promise<Transfers> {
  await using scope = new AsyncDisposableStack();
  const { listen, advertise, tls } = migration;
  const pool = { poolDir };
  const offers = new Offers(stateDir);
  const borrow = (id: string, signal: AbortSignal) => engine.snapshots.borrow({ instance: { ref: id } }, { signal });
  const passes = scope.use(new FirstPasses(borrow));
  for (const attachment of cleanIncoming(pool, Date.now()))
    log.warn('what came from another host and was never taken over is removed', { attachment });
  const pair = pairOf(tls);
  if (listen !== null) {
    offers.clean();
    const lend = lendFrom({ pool, engine, passes });
    const told = ({ attachment, pass }: Offer, what: 'arrived' | 'ended') => {
      if (pass === 'first') passes.tell(attachment, what === 'arrived');
      else if (what === 'ended') passes.end(attachment).catch(error => log.warn(String(error), { attachment }));
    };
    scope.use(await listenForFetches({ address: listen, tls: pair, offers, lend, told, log }));
    log.info('roots may be fetched', { address: listen, tls: pair !== undefined });
  }
  const address = listen === null ? undefined : (advertise ?? listen);
  const ca = tls.ca ?? undefined;
  const transfer = makeTransfer({ pool, engine, offers, passes, peers, address, tls: pair !== undefined, ca, log });
  const kept = scope.move();
  const departures = new Departures(peers, log);
  return { transfer, departures, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

function pairOf({
  cert,
  key,
}: Config['migration']['tls']): { readonly cert: string; readonly key: string } | undefined {
  if (cert !== null && key !== null) return { cert, key };
  if (cert === null && key === null) return undefined;
  throw new ShiftvolError('SV_CONFIG', 'Cannot speak TLS: of migration.tls.cert and key one is missing', {
    field: 'migration.tls',
  });
}
