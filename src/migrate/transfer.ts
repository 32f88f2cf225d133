/** Root file systems from host to host, for Nova's cold migration: offered by the source, fetched by the destination. */
import { statSync } from 'node:fs';
import type { Engine } from '../engine/engine.ts';
import type { Attachment, InstanceKey, InstanceRef } from '../engine/model.ts';
import { explain, ShiftvolError } from '../errors.ts';
import { showTemplate } from '../storage/templates.ts';
import { headerOf } from './facts.ts';
import { endOffer, fetchVolume, parseTold, type Told } from './fetch.ts';
import { Incoming, type Pool, type Received } from './incoming.ts';
import type { Lend } from './listener.ts';
import type { Offers } from './offers.ts';

export type TransferDeps = {
  readonly pool: Pool;
  readonly engine: Pick<Engine, 'list' | 'adopt' | 'execute' | 'snapshots'>;
  readonly offers: Offers;
  /** Where other hosts connect to; undefined: nothing leaves this host. */
  readonly address: string | undefined;
  /** TLS is spoken there. */
  readonly tls: boolean;
  readonly ca: string | undefined;
  readonly log: { info(text: string, facts?: object): void; warn(text: string, facts?: object): void };
};

export type Transfer = {
  readonly sends: boolean;
  send(instance: InstanceRef, destination: string, signal: AbortSignal): Promise<string>;
  receive(instance: InstanceRef, told: string, signal: AbortSignal): Promise<void>;
};

export function makeTransfer(deps: TransferDeps): Transfer {
  return {
    sends: deps.address !== undefined,
    send: async (instance, destination) => offer(deps, instance, destination),
    receive: (instance, told, signal) => receive(deps, instance, parseTold(told), signal),
  };
}

/** A snapshot for each fetch: it stands still anyway, and nothing is left where nobody comes. */
export function lendFrom({ pool, engine }: Pick<TransferDeps, 'pool' | 'engine'>): Lend {
  return async ({ attachment: id }, templates, signal) => {
    const image = await engine.snapshots.borrow({ instance: { ref: id } }, { signal });
    const { plan } = image.attachment;
    const template = showTemplate(pool, plan.source.kind === 'template' ? plan.source.template : '');
    const withTemplate = !templates.has(template.sha256);
    const header = headerOf({ ...plan, instance: plan.ref }, template, image.path, { withTemplate, last: true });
    const { path: before } = template;
    const sendable = { header, image: image.path, before, ...(withTemplate && { template: before }) };
    return { sendable, [Symbol.asyncDispose]: () => image[Symbol.asyncDispose]() };
  };
}

function offer(deps: TransferDeps, { ref }: InstanceRef, destination: string): string {
  const { address, tls, offers, log } = deps;
  if (address === undefined)
    throw new ShiftvolError(
      'SV_RUNTIME_UNSUPPORTED',
      `Cannot move "${ref}" to "${destination}": nothing leaves this host`,
      {
        field: 'migration.listen',
        remedy: 'set migration.listen in plugin.yaml',
      },
    );
  const root = rootOf(deps, ref);
  if (root?.plan.source.kind !== 'template')
    throw new ShiftvolError(
      'SV_ATTACHMENT_NOT_FOUND',
      `Cannot move "${ref}": no root file system of it is in this pool`,
    );
  const { id } = root.plan;
  const { size: sizeBytes } = statSync(root.plan.image.path);
  const { id: offered, token } = offers.make(id);
  log.info('its root file system is offered', { instance: ref, attachment: id, destination });
  return JSON.stringify({ v: 1, address, tls, offer: offered, token, attachment: id, sizeBytes } satisfies Told);
}

/** Cut off and asked again, it goes on. Nothing but the map is made for the ids that the instance has here. */
async function receive(deps: TransferDeps, instance: InstanceRef, told: Told, signal: AbortSignal): Promise<void> {
  const { pool, engine, log, ca } = deps;
  const began = performance.now();
  const trusted = ca === undefined ? {} : { ca };
  using incoming = Incoming.open(pool, told.attachment);
  const existing = rootOf(deps, instance.ref);
  if (existing) requireAdopted(existing, incoming);
  else {
    const onRetry = (error: unknown) =>
      log.warn(`the transfer was cut off, it goes on: ${explain(error)}`, { instance: instance.ref });
    const { header, template, image } = await fetchVolume(pool, incoming, told, { signal, onRetry, ...trusted });
    requireRoot(header, instance);
    const root = { instance, role: 'root', target: '/', template, readOnly: false } as const;
    await engine.adopt({ ...root, image: incoming.path(image) }, signal);
  }
  const source = rootOf(deps, instance.ref)?.plan.source;
  if (source) await engine.execute({ action: 'spawn', instance, source }, signal);
  incoming.remove();
  await endOffer(told, { signal, ...trusted });
  log.info('its root file system has arrived', {
    instance: instance.ref,
    ms: Math.round(performance.now() - began),
  });
}

/** One that is here for another reason is not what was moved. @throws SV_TARGET_TAKEN */
function requireAdopted({ plan }: Attachment, incoming: Incoming): void {
  const { received } = incoming;
  const here = statSync(plan.image.path, { throwIfNoEntry: false })?.ino;
  if (received && here === statSync(incoming.path(received.image)).ino) return;
  if (!received) incoming.remove();
  throw new ShiftvolError('SV_TARGET_TAKEN', `Cannot take over the root of "${plan.instance}": one is here already`, {
    remedy: `if it is none that is needed, "shiftvol destroy ${plan.instance}", and move it again`,
  });
}

function requireRoot({ role, readOnly }: Received['header'], { ref }: InstanceRef): void {
  if (role === 'root' && !readOnly) return;
  throw new ShiftvolError('SV_MESSAGE', `Cannot take over "${ref}": what was sent is no root file system`);
}

function rootOf({ engine }: TransferDeps, ref: string): Attachment | undefined {
  return engine.list(ref as InstanceKey).find(({ plan }) => plan.role === 'root');
}
