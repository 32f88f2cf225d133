/** How root file systems get from this host to another, and here from there: what configuration says, put together. */
import type { Config } from '../config/schema.ts';
import { ShiftvolError } from '../errors.ts';
import type { Log } from '../log/log.ts';
import { cleanIncoming } from '../migrate/incoming.ts';
import { listenForFetches } from '../migrate/listener.ts';
import { Offers } from '../migrate/offers.ts';
import { lendFrom, makeTransfer, type Transfer } from '../migrate/transfer.ts';
import type { Host } from './assemble.ts';

export function transferOf({ migration, stateDir, poolDir }: Config, { engine }: Host, log: Log): Transfer {
  const { listen, advertise, tls } = migration;
  return makeTransfer({
    pool: { poolDir },
    engine,
    offers: new Offers(stateDir),
    address: listen === null ? undefined : (advertise ?? listen),
    tls: tls.cert !== null,
    ca: tls.ca ?? undefined,
    log,
  });
}

/** Undefined where nothing is to leave this host. @throws SV_CONFIG */
export async function listenForTransfers(
  { migration, stateDir, poolDir }: Config,
  { engine }: Host,
  log: Log,
): Promise<AsyncDisposable | undefined> {
  for (const attachment of cleanIncoming({ poolDir }, Date.now()))
    log.warn('what came from another host and was never taken over is removed', { attachment });
  const { listen: address, tls } = migration;
  if ((tls.cert === null) !== (tls.key === null))
    throw new ShiftvolError('SV_CONFIG', 'Cannot speak TLS: of migration.tls.cert and key one is missing', {
      field: 'migration.tls',
    });
  if (address === null) return undefined;
  const offers = new Offers(stateDir);
  offers.clean();
  const { cert, key } = tls;
  const pair = cert === null || key === null ? undefined : { cert, key };
  const lend = lendFrom({ pool: { poolDir }, engine });
  const listener = await listenForFetches({ address, tls: pair, offers, lend, log });
  log.info('roots may be fetched', { address, tls: pair !== undefined });
  return listener;
}
