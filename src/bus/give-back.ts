import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsumeMessage } from 'amqplib';
import type { Log } from '../log/log.ts';
import { reason } from './connection.ts';
import type { Desk } from './intake.ts';

/**
 * The broker keeps it. Not at once, so that a fault that lasts does not become a loop at full speed.
 * @returns whether it was given back; else the channel is gone, and the broker has it already
 */
export async function giveBack(
  message: ConsumeMessage,
  { channel, stop }: Desk,
  error: unknown,
  { waitMs, log }: { readonly waitMs: number; readonly log: Log },
): Promise<boolean> {
  if (channel.signal.aborted) return false;
  log.warn('gives a message back to the broker', { error: reason(error) });
  const hurry = AbortSignal.any([channel.signal, stop]);
  await sleep(waitMs, undefined, { signal: hurry }).catch(() => undefined); // ended early, that is all
  return channel.requeue(message);
}
