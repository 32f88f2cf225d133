/**
 * The exchanges and queues of an RPC server. Clients declare the two exchanges as well, with the flags of their own configuration: where
 * ours differ, it is *they* who fail. The queues are declared by servers alone.
 */
import { randomBytes } from 'node:crypto';
import type { Options } from 'amqplib';
import type { RpcConfig } from '../../config/schema.ts';
import type { Log } from '../../log/log.ts';
import type { Session } from '../connection.ts';
import { declare, declareQueue, must } from '../topology.ts';

/** As oslo.messaging's rabbit_transient_queues_ttl. */
const FANOUT_EXPIRES_MS = 1_800_000;
/** What nobody fetches in so long is of no use to anybody: a host that is gone must not collect casts for ever. */
const EXPIRES_MS = 604_800_000;
const MAX_LENGTH = 10_000;

type Bound = { readonly name: string; readonly key: string };
/**
 * Callers know exchanges and keys only. Python's servers name their queues as the keys; `shiftvol.HOST` is the name of this host's queue
 * of notifications already.
 */
export type RpcQueues = {
  readonly exchange: string;
  readonly fanoutExchange: string;
  /** For whichever host takes it first. */
  readonly shared: Bound;
  readonly own: Bound;
  /** New for each process: two of one host name would share what each is to get. */
  readonly fanout: string;
};

export function rpcQueues({ exchange, topic }: RpcConfig, host: string): RpcQueues {
  return {
    exchange,
    fanoutExchange: `${topic}_fanout`,
    shared: { name: `${topic}_rpc`, key: topic },
    own: { name: `${topic}_rpc.${host}`, key: `${topic}.${host}` },
    fanout: `${topic}_fanout_${randomBytes(16).toString('hex')}`,
  };
}

/** Declares and binds. Safe to repeat. @throws SV_BUS */
export async function declareRpc(session: Session, config: RpcConfig, queues: RpcQueues, log: Log): Promise<void> {
  const { exchange, fanoutExchange, shared, own, fanout } = queues;
  const flags = exchangeFlags(config);
  await declare(
    session,
    log,
    exchange,
    c => c.raw.assertExchange(exchange, 'topic', flags),
    c => c.raw.checkExchange(exchange),
  );
  for (const { name, key } of [shared, own]) {
    await declareQueue(session, log, name, serverQueue(config));
    await must(session, name, c => c.raw.bindQueue(name, exchange, key));
  }
  await declare(
    session,
    log,
    fanoutExchange,
    c => c.raw.assertExchange(fanoutExchange, 'fanout', { durable: config.transientQuorum, autoDelete: true }),
    c => c.raw.checkExchange(fanoutExchange),
  );
  await declareQueue(session, log, fanout, fanoutQueue(config));
  await must(session, fanout, c => c.raw.bindQueue(fanout, fanoutExchange, config.topic));
}

export function exchangeFlags({ durable, quorum, autoDelete }: RpcConfig): Options.AssertExchange {
  return { durable: durable || quorum, autoDelete };
}

/**
 * Transient unless told otherwise, as Python's: a call that outlives the broker has no caller any more, and a queue that keeps its messages
 * takes a write to the disk into every call. No auto-delete: a cast is to wait for an agent that restarts.
 */
function serverQueue({ durable, quorum }: RpcConfig): Options.AssertQueue {
  return {
    durable: durable || quorum,
    arguments: {
      ...(quorum ? { 'x-queue-type': 'quorum' } : {}),
      'x-expires': EXPIRES_MS,
      'x-max-length': MAX_LENGTH,
      'x-overflow': 'drop-head',
    },
  };
}

function fanoutQueue({ transientQuorum }: RpcConfig): Options.AssertQueue {
  return {
    durable: transientQuorum,
    arguments: { ...(transientQuorum ? { 'x-queue-type': 'quorum' } : {}), 'x-expires': FANOUT_EXPIRES_MS },
  };
}
