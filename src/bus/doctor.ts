/** What can be seen of the broker from here, for `shiftvol doctor`. Declares nothing and takes no message. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { BusConfig, Config } from '../config/schema.ts';
import { type BrokerHost, maskUrl, parseTransportUrl, type TransportUrl } from '../config/transport-url.ts';
import { ask } from './channel.ts';
import { open, reason, type Session } from './connection.ts';
import { type Management, type QueueInfo, queueInfo } from './management.ts';
import { queueNames } from './topology.ts';

export type BusCheck = {
  /** Stable name: `bus.connect`, `bus.exchange`, `bus.queue`, `bus.dead`, `bus.policy`. */
  readonly check: string;
  readonly ok: boolean;
  readonly detail: string;
  readonly remedy?: string;
};

/** From here on a backlog is told: with the default prefetch a healthy agent has nothing waiting for more than seconds. */
const BACKLOG = 1000;

/** Never rejects for what it finds: that is a check that is not ok. */
export async function checkBus(config: Config, signal: AbortSignal): Promise<readonly BusCheck[]> {
  if (config.bus.listen.length === 0)
    return [ok('bus.connect', 'no broker is configured; the command line works without')];
  const checks: BusCheck[] = [];
  for (const url of config.bus.listen) checks.push(...(await checkUrl(config, url, signal)));
  return checks;
}

async function checkUrl(config: Config, url: string, signal: AbortSignal): Promise<readonly BusCheck[]> {
  const target = parseTransportUrl(url);
  const shown = maskUrl(url);
  const checks: BusCheck[] = [];
  let asked = false;
  for (const broker of target.hosts) {
    const where = `${broker.host}:${broker.port} (${shown})`;
    try {
      await using connection = await open(broker, target, config.bus, `shiftvol:${config.host}:doctor`, signal);
      checks.push(ok('bus.connect', `${where}: ${versionOf(connection.model.connection.serverProperties)}`));
      if (asked) continue;
      asked = true;
      const session: Session = { model: connection.model, broker: broker.host, signal: connection.signal };
      checks.push(...(await checkExchanges(session, config.bus, shown)));
      checks.push(...(await checkQueues(session, config, shown)));
    } catch (error) {
      if (signal.aborted) throw error;
      checks.push(bad('bus.connect', `${where}: ${reason(error)}`, connectRemedy(reason(error), broker, target)));
    }
  }
  checks.push(...(await checkPolicy(config, target, shown, signal)));
  return checks;
}

async function checkExchanges(session: Session, config: BusConfig, shown: string): Promise<readonly BusCheck[]> {
  const present: string[] = [];
  const absent: string[] = [];
  for (const { exchange } of config.exchanges) {
    const missing = await ask(session, c => c.raw.checkExchange(exchange));
    (missing === undefined ? present : absent).push(exchange);
  }
  if (present.length > 0)
    return [
      ok(
        'bus.exchange',
        `${shown}: ${present.join(', ')} there${absent.length > 0 ? `; ${absent.join(', ')} not` : ''}`,
      ),
    ];
  return [
    bad(
      'bus.exchange',
      `${shown}: none of ${absent.join(', ')} is there, so nothing can be heard yet`,
      'in nova.conf: [oslo_messaging_notifications] driver = messagingv2, [notifications] notification_format = both, bdms_in_notifications = true; the same driver in cinder.conf; and look whether the service uses this vhost',
    ),
  ];
}

async function checkQueues(session: Session, config: Config, shown: string): Promise<readonly BusCheck[]> {
  const names = queueNames(config.bus.queue, config.host);
  const own = await look(session, names.own);
  const dead = await look(session, config.bus.deadLetter.queue);
  const checks: BusCheck[] = [];
  if (own === undefined)
    checks.push(bad('bus.queue', `${shown}: queue ${names.own} is not there`, 'start the agent once: shiftvol serve'));
  else {
    const text = `${shown}: queue ${names.own} has ${own.consumerCount} consumers and ${own.messageCount} messages waiting`;
    if (own.consumerCount === 0)
      checks.push(
        bad('bus.queue', text, 'start the agent: shiftvol serve; until then notifications collect up to queue_limits'),
      );
    else if (own.consumerCount > 1)
      checks.push(
        bad('bus.queue', text, `give each host its own name: another agent calls itself "${config.host}", too`),
      );
    else if (own.messageCount > BACKLOG)
      checks.push(bad('bus.queue', text, 'see what the agent is doing: shiftvol list, and its log'));
    else checks.push(ok('bus.queue', text));
  }
  if (dead !== undefined) {
    const text = `${shown}: ${dead.messageCount} dead letters in ${config.bus.deadLetter.queue}`;
    checks.push(
      dead.messageCount === 0
        ? ok('bus.dead', text)
        : bad('bus.dead', text, 'shiftvol deadletter list says why; then "deadletter replay" or "deadletter drop"'),
    );
  }
  return checks;
}

async function look(session: Session, queue: string) {
  let found: { messageCount: number; consumerCount: number } | undefined;
  await ask(session, async c => {
    found = await c.raw.checkQueue(queue);
  });
  return found;
}

async function checkPolicy(
  config: Config,
  target: TransportUrl,
  shown: string,
  signal: AbortSignal,
): Promise<readonly BusCheck[]> {
  if (config.bus.managementUrl === null) return [];
  const { own } = queueNames(config.bus.queue, config.host);
  const management: Management = { url: config.bus.managementUrl, vhost: target.vhost };
  try {
    let info = await queueInfo(management, own, signal);
    // Statistics come some seconds after the queue itself.
    if (info === undefined) {
      await sleep(1000, undefined, { signal });
      info = await queueInfo(management, own, signal);
    }
    return info === undefined ? [] : judgePolicy(info, shown, config.bus);
  } catch (error) {
    if (signal.aborted) throw error;
    return [
      bad(
        'bus.policy',
        `${shown}: the management API cannot be asked: ${reason(error)}`,
        'correct bus.management_url, or set it to null',
      ),
    ];
  }
}

/** Exported for its test: what an effective policy does to our queue. */
export function judgePolicy(info: QueueInfo, shown: string, config: BusConfig): readonly BusCheck[] {
  const policy = info.policy ?? '(none)';
  const { 'message-ttl': ttl, expires, 'max-length': maxLength } = info.effectivePolicy;
  const checks: BusCheck[] = [];
  if (info.type !== undefined && info.type !== 'quorum')
    checks.push(
      bad(
        'bus.policy',
        `${shown}: queue ${info.name} is ${info.type}, not quorum`,
        `delete it once; the agent makes it anew`,
      ),
    );
  if (typeof ttl === 'number')
    checks.push(
      bad(
        'bus.policy',
        `${shown}: policy ${policy} lets messages of ${info.name} expire after ${ttl / 1000} s (then they are dead letters): an agent that is away for longer misses them`,
        `exclude "${config.queue.replace('{host}', '')}" from the policy's pattern, or give it a policy of higher priority without message-ttl`,
      ),
    );
  if (typeof expires === 'number' && (config.queueLimits.expiresMs === 0 || expires < config.queueLimits.expiresMs))
    checks.push(
      bad(
        'bus.policy',
        `${shown}: policy ${policy} deletes ${info.name} after ${expires / 1000} s without a consumer`,
        'give the queue a policy of higher priority',
      ),
    );
  if (typeof maxLength === 'number' && maxLength < config.queueLimits.maxLength)
    checks.push(
      bad(
        'bus.policy',
        `${shown}: policy ${policy} limits ${info.name} to ${maxLength} messages`,
        'give the queue a policy of higher priority',
      ),
    );
  return checks.length > 0 ? checks : [ok('bus.policy', `${shown}: policy ${policy} leaves ${info.name} alone`)];
}

function connectRemedy(text: string, broker: BrokerHost, target: TransportUrl): string {
  if (/ACCESS-REFUSED|403/.test(text)) return `correct user and password of ${broker.host}`;
  if (/refuses the vhost/.test(text)) return `create the vhost "${target.vhost}", or allow the user to use it`;
  if (/certificate|self-signed|altname|CERT/i.test(text))
    return 'set bus.tls.ca to the CA of the broker, and use the host name of its certificate';
  return `see that RabbitMQ listens on ${broker.host}:${broker.port} and that nothing in between blocks it`;
}

function versionOf(properties: object): string {
  const get = (key: string) => Object.entries(properties).find(([k]) => k === key)?.[1];
  return `${String(get('product') ?? 'broker')} ${String(get('version') ?? '')}`.trim();
}

const ok = (check: string, detail: string): BusCheck => ({ check, ok: true, detail });
const bad = (check: string, detail: string, remedy: string): BusCheck => ({ check, ok: false, detail, remedy });
