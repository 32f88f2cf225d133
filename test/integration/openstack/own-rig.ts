/** Attachments of this host's own over a recorded Cinder, and an engine that does what a test says. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import type { AttachCommand, Attachment, Command, Connection } from '../../../src/engine/model.ts';
import { Secrets } from '../../../src/engine/secrets.ts';
import type { VolumeHost } from '../../../src/engine/volume-ports.ts';
import { Cinder } from '../../../src/openstack/cinder.ts';
import { OwnNotes } from '../../../src/openstack/own-notes.ts';
import { OwnVolumes } from '../../../src/openstack/own-volumes.ts';
import { type Client, logInto, startClient } from './client.ts';
import { readConversation } from './conversation.ts';
import { CONNECTOR } from './demo.ts';
import type { Asked, MakeTrouble, Trouble } from './replay.ts';

const dir = mkdtempSync(join(tmpdir(), 'shiftvol-own-'));
after(() => rmSync(dir, { recursive: true }));

const reserved = readConversation('volumes').exchanges.find(
  e => e.method === 'POST' && e.path.endsWith('/attachments'),
);
export const RESERVED = { status: 200, body: reserved?.answer.text ?? '' } satisfies Trouble;
export const { id: attachmentId, volume_id: volumeId } = JSON.parse(RESERVED.body ?? '').attachment as Record<
  string,
  string
>;
export const isReserve = ({ method, path }: Asked): boolean => method === 'POST' && path.endsWith('/attachments');

export const connection: Connection = {
  type: 'nfs',
  volumeId: volumeId ?? '',
  name: 'nfs-volume',
  kind: 'file',
  readOnly: false,
  facts: { share: 'x' },
};
export const COMMAND = {
  action: 'attach',
  instance: { ref: 'c1' },
  target: '/mnt/data',
  readOnly: false,
  volume: 'demo-volume',
} as const;

export type Rig = AsyncDisposable & {
  readonly client: Client;
  readonly volumes: OwnVolumes;
  /** Of its notes. */
  readonly directory: string;
  readonly notes: () => readonly string[];
  readonly did: readonly string[];
  /** Another run of the agent. */
  restarted(): OwnVolumes;
};

let rigs = 0;
export async function makeRig(trouble: MakeTrouble = () => undefined): Promise<Rig> {
  const client = await startClient(
    ['volumes'],
    (asked, times) => trouble(asked, times) ?? (isReserve(asked) ? RESERVED : undefined),
  );
  const directory = join(dir, String(++rigs));
  const make = () =>
    new OwnVolumes({
      notes: new OwnNotes(directory),
      cinder: async () => new Cinder(client.session),
      connector: async () => CONNECTOR,
      read: async () => ({ connection, secrets: new Secrets({ key: 'hidden-secret' }) }),
      log: logInto(client.lines),
    });
  return {
    client,
    volumes: make(),
    directory,
    restarted: make,
    notes: () => {
      try {
        return readdirSync(directory);
      } catch {
        return [];
      }
    },
    get did() {
      return client.cloud.asked.filter(a => /attachments/.test(a.path)).map(a => a.method);
    },
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  };
}

/** An engine that attaches, or does not. */
export function host(execute?: () => never): VolumeHost & { readonly commands: AttachCommand[] } {
  const commands: AttachCommand[] = [];
  const attachments: Attachment[] = [];
  return {
    commands,
    list: () => attachments,
    recover: async () => assert.fail('nothing is unfinished'),
    preview: async () => assert.fail('nobody asked'),
    execute: async (command: Command) => {
      execute?.();
      assert.equal(command.action, 'attach');
      commands.push(command);
      const status = { state: 'attached', device: '/dev/loop0', fsType: 'ext4', attachedAt: '' } as const;
      // Of a plan nothing else is looked at.
      attachments.push({
        plan: { source: command.source } as Attachment['plan'],
        status,
        createdAt: '',
        updatedAt: '',
      });
      return { action: 'attach', changed: true, attachments, durationMs: 1, steps: [] };
    },
  };
}
