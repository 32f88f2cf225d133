/** What can be asked of an engine from outside its process: the agent's socket and the command line speak this. */
import { z } from 'zod';
import type { Engine } from '../engine/engine.ts';
import {
  type AttachVolumeCommand,
  CONNECTION_TYPES,
  type Command,
  type InstanceRef,
  type Outcome,
} from '../engine/model.ts';
import { Secrets } from '../engine/secrets.ts';
import type { Place } from '../engine/snapshots.ts';
import { ShiftvolError } from '../errors.ts';
import { withSteps } from './recover-plan.ts';
import { listView, viewOf } from './view.ts';

const name = z.string().min(1).max(255);
const instance = z.strictObject({ ref: name, project: name.optional() });
const path = z.string().min(1).max(4095).startsWith('/');
const count = z.int().positive();
const requestId = z.string().min(1).max(512).optional();
const idBase = z.int().nonnegative().optional();
const fact = z.union([z.string().max(4095), z.number(), z.boolean(), z.array(z.string().max(4095)).max(64).readonly()]);
const connection = z.strictObject({
  type: z.enum(CONNECTION_TYPES),
  volumeId: name,
  name: z.string().min(1).max(4095),
  kind: z.enum(['file', 'device']),
  readOnly: z.boolean(),
  encryption: z
    .strictObject({
      provider: z.enum(['luks', 'luks2']),
      keyId: name.optional(),
      cipher: name.optional(),
      keySizeBits: count.optional(),
    })
    .optional(),
  facts: z.record(name, fact),
});
const source = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('template'), template: name, sizeBytes: count.optional() }),
  z.strictObject({ kind: z.literal('file'), path, idBase }),
  z.strictObject({ kind: z.literal('device'), path, idBase }),
  z.strictObject({ kind: z.literal('connection'), connection, idBase }),
]);
const asked = { requestId, instance };
/** Of a connection, by name: in the clear, since nobody but root gets to the socket. */
const secrets = z.union([z.instanceof(Secrets), z.record(name, z.string().max(65536))]).optional();
const spawn = z
  .strictObject({
    ...asked,
    action: z.literal('spawn'),
    anew: z.boolean().optional(),
    template: name.optional(),
    sizeBytes: count.optional(),
    source: source.optional(),
    volumeId: name.optional(),
    secrets,
  })
  .refine(s => (s.source === undefined) !== (s.template === undefined), {
    path: ['template'],
    message: 'either "template" or "source" is accepted',
  })
  .refine(s => s.source === undefined || s.sizeBytes === undefined, {
    path: ['sizeBytes'],
    message: 'a size beside "source" belongs into it',
  });
const command = z.discriminatedUnion('action', [
  z.strictObject({
    ...asked,
    action: z.literal('attach'),
    target: path,
    source,
    readOnly: z.boolean(),
    volumeId: name.optional(),
    secrets,
  }),
  z.strictObject({
    ...asked,
    action: z.literal('detach'),
    target: path.optional(),
    volumeId: name.optional(),
    all: z.boolean().optional(),
    until: z.iso.datetime().optional(),
    lazy: z.boolean(),
  }),
  spawn,
  z.strictObject({
    ...asked,
    action: z.literal('extend'),
    target: path.optional(),
    volumeId: name.optional(),
    sizeBytes: count.optional(),
  }),
  z.strictObject({ ...asked, action: z.literal('destroy'), target: path.optional(), lazy: z.boolean() }),
]);
/** An attachment: its id, or its instance and target. */
const place = { instance, target: path.optional() };
const dryRun = z.boolean().default(false);
/** Commands about one instance as such name it flat. */
const named = { instance: name, project: name.optional() };

export const apiRequest = z.discriminatedUnion('command', [
  z.strictObject({ command: z.literal('execute'), body: command, dryRun }),
  // A volume of Cinder, by name or id: exported to this host first.
  z.strictObject({
    command: z.literal('attach.volume'),
    body: z.strictObject({ ...asked, target: path, readOnly: z.boolean(), volume: name, idBase }),
    dryRun,
  }),
  z.strictObject({ command: z.literal('list'), instance: name.optional() }),
  // What was done lately, step by step: all that changed since the version of an earlier answer.
  z.strictObject({ command: z.literal('runs'), since: z.int().nonnegative().default(0) }),
  z.strictObject({ command: z.literal('show'), ...named, target: path.optional() }),
  z.strictObject({ command: z.literal('recover'), dryRun }),
  z.strictObject({
    command: z.literal('idmap.alloc'),
    ...named,
    count: count.optional(),
    start: count.optional(),
    dryRun,
  }),
  z.strictObject({ command: z.literal('snapshot.create'), ...place, name, deadlineMs: count.optional(), dryRun }),
  z.strictObject({ command: z.literal('snapshot.list'), place: z.strictObject(place).optional() }),
  z.strictObject({ command: z.literal('snapshot.find'), ...place, name }),
  z.strictObject({ command: z.literal('snapshot.restore'), ...place, name, dryRun }),
  z.strictObject({ command: z.literal('snapshot.remove'), ...place, name, dryRun }),
  // What an import has received: see src/migrate/.
  z.strictObject({
    command: z.literal('adopt'),
    ...named,
    role: z.enum(['root', 'volume']),
    target: path,
    template: name,
    readOnly: z.boolean(),
    image: path,
  }),
  z.strictObject({ command: z.literal('idmap.list') }),
  z.strictObject({ command: z.literal('idmap.release'), ...named, dryRun }),
]);
/** As a client sends it: what has a default may be left out. */
export type ApiRequest = z.input<typeof apiRequest>;

/** @throws SV_MESSAGE naming the field */
export function parseApiRequest(value: unknown): z.output<typeof apiRequest> {
  const parsed = apiRequest.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const field = issue?.path.join('.') ?? '';
  throw new ShiftvolError(
    'SV_MESSAGE',
    `Cannot take the request: ${field === '' ? '' : `"${field}": `}${issue?.message ?? 'not valid'}`,
    { field },
  );
}

/** Does what is asked. What comes back is what `--json` prints. */
export async function answer(engine: Engine, asked: ApiRequest, signal: AbortSignal): Promise<unknown> {
  const request = parseApiRequest(asked);
  switch (request.command) {
    case 'execute': {
      const body = byAttachment(engine, commandOf(request.body));
      if (request.dryRun) return await engine.preview(body, signal);
      return outcomeOf(body, await engine.execute(body, signal));
    }
    case 'attach.volume': {
      const body = clean({ ...request.body, action: 'attach' as const });
      if (request.dryRun) return await engine.previewVolume(body, signal);
      return outcomeOf(body, await engine.attachVolume(body, signal));
    }
    case 'list':
      return listView(engine.list(), request.instance);
    case 'runs':
      return engine.runs.since(request.since);
    case 'show':
      return (await engine.show(refOf(request), request.target, signal)).map(viewOf);
    case 'recover': {
      const found = await engine.recover({ dryRun: request.dryRun, signal });
      return request.dryRun ? withSteps(found, engine.list()) : found;
    }
    case 'snapshot.create':
      if (request.dryRun) return await engine.snapshots.preview('create', placeOf(request), request.name, signal);
      return await engine.snapshots.create(placeOf(request), request.name, {
        signal,
        ...(request.deadlineMs !== undefined && { deadlineMs: request.deadlineMs }),
      });
    case 'snapshot.list':
      return await engine.snapshots.list(request.place && placeOf(request.place), signal);
    case 'snapshot.find':
      return await engine.snapshots.find(placeOf(request), request.name, signal);
    case 'snapshot.restore':
      if (request.dryRun) return await engine.snapshots.preview('restore', placeOf(request), request.name, signal);
      return await engine.snapshots.restore(placeOf(request), request.name, signal);
    case 'snapshot.remove':
      if (request.dryRun) return await engine.snapshots.preview('remove', placeOf(request), request.name, signal);
      return await engine.snapshots.remove(placeOf(request), request.name, signal);
    case 'adopt': {
      const { role, target, template, readOnly, image } = request;
      const adoption = { instance: refOf(request), role, target, template, readOnly, image };
      return viewOf(await engine.adopt(adoption, signal));
    }
    case 'idmap.alloc':
      return await engine.reserveIds(
        refOf(request),
        clean({ count: request.count, start: request.start }),
        request.dryRun,
        signal,
      );
    case 'idmap.list':
      return { ranges: await engine.usedIds(signal) };
    case 'idmap.release':
      return await engine.releaseIds(refOf(request), request.dryRun, signal);
    default:
      return request satisfies never;
  }
}

function outcomeOf(asked: Command | AttachVolumeCommand, outcome: Outcome) {
  requireAnswerTo(asked, outcome);
  return { ...outcome, attachments: outcome.attachments.map(viewOf) };
}

function commandOf(body: z.output<typeof command>): Command {
  if (body.action !== 'attach' && body.action !== 'spawn') return clean(body);
  const secrets = secretsOf(body);
  if (body.action === 'attach') {
    const { secrets: _, ...rest } = body;
    return { ...clean(rest), ...secrets };
  }
  const { secrets: _, source, template = '', sizeBytes, ...rest } = body;
  const root = source === undefined ? clean({ template, sizeBytes }) : { source: clean(source) };
  return { ...clean(rest), ...root, ...secrets };
}

function secretsOf({ secrets }: Pick<z.output<typeof spawn>, 'secrets'>): { readonly secrets?: Secrets } {
  if (secrets === undefined) return {};
  return { secrets: secrets instanceof Secrets ? secrets : new Secrets(secrets) };
}

/** An attachment that is named by its id is at one place: its id follows from that. */
function byAttachment(engine: Engine, command: Command): Command {
  if (command.action !== 'extend' || command.target !== undefined || command.volumeId !== undefined) return command;
  const found = engine.list().find(({ plan }) => plan.id === command.instance.ref);
  if (found) return { ...command, instance: found.plan.ref, target: found.plan.target };
  throw new ShiftvolError('SV_ATTACHMENT_NOT_FOUND', `Cannot find an attachment "${command.instance.ref}"`, {
    field: 'target',
    remedy: 'give INSTANCE:TARGET or the id that "shiftvol list" shows',
  });
}

/** The engine answers a request id that it knows with the answer of that time; it must have been to the same question. */
function requireAnswerTo(body: Command | AttachVolumeCommand, { action, attachments }: Outcome): void {
  const target = 'target' in body ? body.target : undefined;
  const other = attachments.find(a => target !== undefined && a.plan.target !== target);
  if (body.requestId === undefined || (action === body.action && other === undefined)) return;
  throw new ShiftvolError(
    'SV_USAGE',
    `Cannot use the request id ${JSON.stringify(body.requestId)} again: it was given to another request, ${action}${other ? ` at ${other.plan.target}` : ''}`,
    { field: 'requestId', remedy: 'give each request an id of its own' },
  );
}

type AskedPlace = { instance: { ref: string; project?: string | undefined }; target?: string | undefined };

function placeOf({ instance, target }: AskedPlace): Place {
  return { instance: clean(instance), ...(target !== undefined && { target }) };
}

function refOf({ instance: ref, project }: { instance: string; project?: string | undefined }): InstanceRef {
  return project === undefined ? { ref } : { ref, project };
}

type Clean<T> = T extends object ? { [K in keyof T]: Clean<Exclude<T[K], undefined>> } : T;

/** Keys that zod left as undefined are taken out: with exactOptionalPropertyTypes an absent key is the only "not given". */
function clean<T extends object>(value: T): Clean<T> {
  return JSON.parse(JSON.stringify(value)) as Clean<T>;
}
