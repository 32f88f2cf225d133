/** Sends a request until there is an answer that another attempt would not change, and logs each. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../log/log.ts';
import { OpenstackError } from './openstack-error.ts';
import { asGlobalRequestId, currentRequestId } from './request-id.ts';
import { delayAfter, mayRetryStatus, mayRetryTrouble, type RetryPolicy, toldDelay } from './retry.ts';
import { type Exchange, NoAnswer, type Outgoing, type Transport } from './transport.ts';

export type Sending = Outgoing & {
  /** For messages: `image`. */
  readonly service: string;
  /** Doing it twice is doing it once. */
  readonly repeatable: boolean;
};

export type SenderDeps = {
  readonly transport: Transport;
  readonly policy: RetryPolicy;
  readonly log: Log | undefined;
};

export class Sender {
  readonly #deps: SenderDeps;

  constructor(deps: SenderDeps) {
    this.#deps = deps;
  }

  /** Any answer, whatever its status. @throws SV_OPENSTACK: there was none; the signal's reason */
  async send(request: Sending, signal: AbortSignal): Promise<Exchange> {
    const { policy } = this.#deps;
    // A body that is a stream is gone with the first attempt.
    const attempts = request.body === undefined ? policy.attempts : 1;
    for (let attempt = 1; ; attempt++) {
      const last = attempt >= attempts;
      const outcome = await this.#attempt(request, attempt, signal);
      if (outcome instanceof NoAnswer) {
        if (last || !mayRetryTrouble(outcome.trouble, request.repeatable)) throw noAnswer(request, outcome);
        await sleep(delayAfter(attempt, policy), undefined, { signal });
        continue;
      }
      const told = toldDelay(outcome.headers['retry-after'], Date.now());
      const tooLong = told !== undefined && told > policy.maxToldMs;
      if (last || tooLong || !mayRetryStatus(outcome.status, told, request.repeatable)) return outcome;
      outcome.body.destroy();
      await sleep(Math.max(told ?? 0, delayAfter(attempt, policy)), undefined, { signal });
    }
  }

  async #attempt(request: Sending, attempt: number, signal: AbortSignal): Promise<Exchange | NoAnswer> {
    const { transport, log } = this.#deps;
    const id = currentRequestId();
    const globalId = asGlobalRequestId(id);
    const headers = { ...request.headers, ...(globalId !== undefined && { 'x-openstack-request-id': globalId }) };
    const began = performance.now();
    const facts = () => ({
      ...(id !== undefined && { request_id: id }),
      ms: Math.round(performance.now() - began),
      ...(attempt > 1 && { attempt }),
    });
    const line = `${request.service}: ${request.method} ${pathOf(request.url)}`;
    try {
      const exchange = await transport.send({ ...request, headers }, signal);
      log?.debug(`${line}: ${exchange.status}`, { ...facts(), openstack_request_id: exchange.requestId ?? '-' });
      return exchange;
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      log?.debug(`${line}: no answer: ${error.message}`, facts());
      return error;
    }
  }
}

function noAnswer({ service, method, url }: Sending, cause: NoAnswer): OpenstackError {
  const late = cause.trouble.phase !== undefined;
  return new OpenstackError(
    late ? 'SV_TIMEOUT' : 'SV_OPENSTACK',
    `Cannot ${method} ${pathOf(url)}: the ${service} service at ${URL.parse(url)?.host ?? ''} does not answer`,
    { status: 0, cause },
  );
}

/** Neither query nor host: the host is in the error, and a query may hold names. */
export function pathOf(url: string): string {
  return URL.parse(url)?.pathname ?? '/';
}
