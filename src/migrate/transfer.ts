/** Root file systems from host to host, for Nova's cold migration: offered by the source, fetched by the destination. */
import { statSync } from 'node:fs';
import type { Engine } from '../engine/engine.ts';
import type { Attachment, InstanceKey, InstanceRef } from '../engine/model.ts';
import { explain, ShiftvolError } from '../errors.ts';
import { Arriving } from './arriving.ts';
import { endOffer, fetchVolume, parseTold, type Told } from './fetch.ts';
import type { FirstPasses } from './first-passes.ts';
import { Incoming, type Pool, type Received } from './incoming.ts';
import type { Offers } from './offers.ts';
import type { Peers } from './peers.ts';

export type TransferDeps = {
  readonly pool: Pool;
  readonly engine: Pick<Engine, 'list' | 'adopt' | 'execute'>;
  readonly offers: Offers;
  readonly passes: FirstPasses;
  readonly peers: Peers;
  /** Where other hosts connect to; undefined: nothing leaves this host. */
  readonly address: string | undefined;
  /** TLS is spoken there. */
  readonly tls: boolean;
  readonly ca: string | undefined;
  readonly log: { info(text: string, facts?: object): void; warn(text: string, facts?: object): void };
};

export type Transfer = {
  readonly sends: boolean;
  /** While the instance runs: most of its root goes ahead. Where that cannot be, the last pass brings all. @throws the signal's reason */
  sendAhead(instance: InstanceRef, destination: string, signal: AbortSignal): Promise<void>;
  send(instance: InstanceRef, destination: string, signal: AbortSignal): Promise<string>;
  /** On the source: the move is over, or did not come about. Then `destination` is told to forget what went ahead. Never rejects. */
  end(instance: InstanceRef, destination?: string): Promise<void>;
  receive(instance: InstanceRef, told: string, signal: AbortSignal): Promise<void>;
  /** On the destination, asked by the source. */
  receiveAhead(instance: InstanceRef, told: string, signal: AbortSignal): Promise<void>;
  forget(attachment: string): Promise<void>;
};

export function makeTransfer(deps: TransferDeps): Transfer {
  const arriving = new Arriving(deps);
  return {
    sends: deps.address !== undefined,
    sendAhead: (instance, destination, signal) => sendAhead(deps, instance, destination, signal),
    send: async (instance, destination) => offer(deps, instance, destination),
    end: async (instance, destination) => {
      await end(deps, instance, destination).catch((error: unknown) => {
        deps.log.warn(`what was kept for a move stays for a while: ${explain(error)}`, { instance: instance.ref });
      });
    },
    receive: async (instance, text, signal) => {
      const told = parseTold(text);
      await arriving.stop(told.attachment);
      await receive(deps, instance, told, signal);
    },
    receiveAhead: async (instance, text, signal) => {
      const told = parseTold(text);
      // The last pass will say what stands in the way.
      if (told.pass === 'first' && !rootOf(deps, instance.ref)) await arriving.fetch(told, signal);
    },
    forget: attachment => arriving.forget(attachment),
  };
}

async function sendAhead(
  deps: TransferDeps,
  { ref }: InstanceRef,
  destination: string,
  signal: AbortSignal,
): Promise<void> {
  const { passes, peers, log } = deps;
  const facts = { instance: ref, destination };
  const began = performance.now();
  try {
    const { id } = requireRoot(deps, ref).plan;
    await passes.begin(id, signal);
    const told = toldOf(deps, ref, destination, 'first');
    await peers.tell(destination, 'receive_first_pass', { instance: ref, told: JSON.stringify(told) });
    const isThere = await passes.arrived(id, signal);
    const ms = Math.round(performance.now() - began);
    if (isThere) log.info('the first pass of its root has arrived, it runs on', { ...facts, ms });
    else log.warn('the first pass of its root did not arrive: the last one brings all of it', { ...facts, ms });
  } catch (error) {
    signal.throwIfAborted();
    log.warn(`its root cannot go ahead of it, the last pass brings all of it: ${explain(error)}`, facts);
  }
}

function offer(deps: TransferDeps, { ref }: InstanceRef, destination: string): string {
  const told = toldOf(deps, ref, destination);
  deps.log.info('its root file system is offered', { instance: ref, attachment: told.attachment, destination });
  return JSON.stringify(told);
}

function toldOf(deps: TransferDeps, ref: string, destination: string, pass?: 'first'): Told {
  const { address, tls, offers } = deps;
  if (address === undefined)
    throw new ShiftvolError(
      'SV_RUNTIME_UNSUPPORTED',
      `Cannot move "${ref}" to "${destination}": nothing leaves this host`,
      {
        field: 'migration.listen',
        remedy: 'set migration.listen in plugin.yaml',
      },
    );
  const { id, image } = requireRoot(deps, ref).plan;
  const { size: sizeBytes } = statSync(image.path);
  const { id: offered, token } = offers.make(id, pass);
  return { v: 1, address, tls, offer: offered, token, attachment: id, sizeBytes, ...(pass && { pass }) };
}

async function end(deps: TransferDeps, { ref }: InstanceRef, destination: string | undefined): Promise<void> {
  const { passes, offers, peers } = deps;
  const id = rootOf(deps, ref)?.plan.id;
  if (id === undefined) return;
  const wentAhead = passes.find(id) !== undefined;
  await passes.end(id);
  offers.endOf(id);
  if (wentAhead && destination !== undefined) await peers.tell(destination, 'forget_first_pass', { attachment: id });
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
    requireIsRoot(header, instance);
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

function requireIsRoot({ role, readOnly }: Received['header'], { ref }: InstanceRef): void {
  if (role === 'root' && !readOnly) return;
  throw new ShiftvolError('SV_MESSAGE', `Cannot take over "${ref}": what was sent is no root file system`);
}

/** @throws SV_ATTACHMENT_NOT_FOUND: none, or not of this pool */
function requireRoot(deps: TransferDeps, ref: string): Attachment {
  const root = rootOf(deps, ref);
  if (root?.plan.source.kind === 'template') return root;
  throw new ShiftvolError('SV_ATTACHMENT_NOT_FOUND', `Cannot move "${ref}": no root file system of it is in this pool`);
}

function rootOf({ engine }: Pick<TransferDeps, 'engine'>, ref: string): Attachment | undefined {
  return engine.list(ref as InstanceKey).find(({ plan }) => plan.role === 'root');
}
