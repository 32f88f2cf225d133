/** What the driver methods need of this host. They own it; engine, runtime, connectors and OpenStack's clients satisfy it. */
import type { Readable } from 'node:stream';
import type { Machines } from '../container/machines.ts';
import type { Engine } from '../engine/engine.ts';
import type { Connection, InstanceRef } from '../engine/model.ts';
import type { Secrets } from '../engine/secrets.ts';

export type NovaEngine = Pick<Engine, 'execute' | 'swapVolume' | 'list' | 'noteMove' | 'reserveIds' | 'releaseIds'>;

/** What becomes of volumes that Cinder exports to this host. */
export interface Connectors {
  /** Takes a connection_info apart, and looks at nothing else. `encryption`: Cinder's, of an encrypted volume. @throws SV_CONNECTION_INFO */
  read(
    connectionInfo: unknown,
    encryption?: unknown,
  ): Promise<{ readonly connection: Connection; readonly secrets: Secrets }>;
  /** What Cinder has to know of this host before it exports anything to it. */
  properties(signal: AbortSignal): Promise<Readonly<Record<string, unknown>>>;
}

/** Glance's images, as templates of this host. */
export interface Images {
  /** Undefined: there is no such template. */
  find(template: string): { readonly sizeBytes: number } | undefined;
  /**
   * Downloads, verifies and imports: all of it, or nothing.
   * @throws SV_TEMPLATE_EXISTS: since a moment ago; SV_LOCKED: somebody else imports it; SV_OPENSTACK*, SV_IMAGE_REFUSED, SV_CHECKSUM,
   *   SV_NO_SPACE; SV_CONFIG: no cloud is configured
   */
  import(imageId: string, template: string, signal: AbortSignal): Promise<void>;
  /** Into an image that Nova has made, which is `queued`. @throws SV_OPENSTACK*, SV_CONFIG */
  upload(imageId: string, image: RootImage, signal: AbortSignal): Promise<void>;
}

/** A consistent copy of a root file system; what was made for it goes with dispose. */
export type RootImage = AsyncDisposable & {
  readonly body: Readable;
  /** Of the body. */
  readonly sizeBytes: number;
  /** In Glance's words. */
  readonly diskFormat: 'raw' | 'qcow2';
};

/** Sizes and stillness of what is mounted for an instance. */
export interface FileSystems {
  /** Makes the root file system as large, while it is in use too. As large already, or larger, is success. */
  growRoot(instance: InstanceRef, sizeBytes: number, call: Call): Promise<void>;
  /** Takes notice of a volume that became larger, and grows what is on it. @throws SV_ATTACHMENT_NOT_FOUND */
  extendVolume(instance: InstanceRef, volumeId: string, sizeBytes: number, call: Call): Promise<void>;
  /** Nothing is written until `thaw`, or until a deadline of the engine's own. @throws SV_BUSY: frozen already; SV_TIMEOUT */
  freeze(instance: InstanceRef, signal: AbortSignal): Promise<void>;
  thaw(instance: InstanceRef, signal: AbortSignal): Promise<void>;
  openRootImage(instance: InstanceRef, signal: AbortSignal): Promise<RootImage>;
}

/** What is to be known of an instance between two calls of Nova, kept with its container. */
export type Note = {
  /** Host that it is leaving for: a resize or migration that is neither confirmed nor taken back. */
  readonly leaving?: string;
};
export interface Notes {
  /** Undefined: no such container, or nothing noted. */
  get(instance: InstanceRef, signal: AbortSignal): Promise<Note | undefined>;
  /** Replaces what was there. @throws SV_INSTANCE_NOT_FOUND */
  set(instance: InstanceRef, note: Note, signal: AbortSignal): Promise<void>;
}

/** Cinder, asked for what the user wrote on a volume. */
export interface VolumeLabels {
  metadata(volumeId: string, signal: AbortSignal): Promise<Readonly<Record<string, string>>>;
}

/** Brings a root file system that is on this host's own disk to another host. */
export interface RootTransfer {
  /** Whether roots may leave this host. */
  readonly sends: boolean;
  /**
   * While the instance runs: most of its root goes ahead of it, so that what is sent while it is down is only what changed meanwhile. Where
   * that cannot be, all is sent then. @throws the signal's reason
   */
  sendAhead(instance: InstanceRef, destination: string, signal: AbortSignal): Promise<void>;
  /** From the source, whose instance is stopped; the root stays. Returns what `receive` has to be told, small. */
  send(instance: InstanceRef, destination: string, signal: AbortSignal): Promise<string>;
  /** On the destination: makes the root of an instance whose machine is there. */
  receive(instance: InstanceRef, told: string, signal: AbortSignal): Promise<void>;
  /** On the source, before its root goes: nothing is kept for the move any more. `destination`: it did not come about, and that host forgets it too. Never rejects. */
  end(instance: InstanceRef, destination?: string): Promise<void>;
}

/** What hosts have to tell each other of a live migration, where Nova has no words for it. */
export interface Departures {
  /** From the source. Where it cannot be told, how long the instance was down is not known; nothing else comes of it. */
  tell(destination: string, departure: Departure): Promise<void>;
  /** On the destination; each once. */
  take(instance: InstanceRef): Departure | undefined;
}
/** `downSince`: milliseconds since 1970, when it began to stop. */
export type Departure = { readonly instance: string; readonly source: string; readonly downSince: number };

/** What this host has, and how much of it is used. */
export type Resources = {
  readonly vcpus: number;
  readonly memoryMb: number;
  readonly memoryUsedMb: number;
  readonly diskGb: number;
  readonly diskUsedGb: number;
  readonly diskFreeGb: number;
  /** `x86_64` */
  readonly arch: string;
  readonly cpu: {
    readonly model: string;
    readonly vendor: string;
    readonly sockets: number;
    readonly cores: number;
    readonly threads: number;
  };
};

export interface HostFacts {
  resources(): Promise<Resources>;
  /** `LXD` 5.0.2 */
  runtime(signal: AbortSignal): Promise<{ readonly name: string; readonly version: string }>;
  uptimeS(): Promise<number>;
}

export const LIVE_MIGRATION = ['refuse', 'stop_and_move'] as const;
export type NovaConfig = {
  readonly liveMigration: (typeof LIVE_MIGRATION)[number];
  /** `/mnt/{volume_id}` */
  readonly defaultTarget: string;
  /** For an init to end by itself, where Nova does not say. */
  readonly stopTimeoutMs: number;
};

type Log = {
  debug(text: string, facts?: object): void;
  info(text: string, facts?: object): void;
  warn(text: string, facts?: object): void;
};

/** All that the driver methods work with. */
export type Nova = {
  readonly host: string;
  readonly version: string;
  readonly config: NovaConfig;
  readonly engine: NovaEngine;
  readonly machines: Machines;
  readonly connectors: Connectors;
  readonly images: Images;
  readonly fileSystems: FileSystems;
  readonly notes: Notes;
  readonly labels?: VolumeLabels;
  readonly transfer?: RootTransfer;
  readonly departures?: Departures;
  readonly facts: HostFacts;
  readonly log: Log;
};

/** What a method knows of its call. */
export type Call = { readonly signal: AbortSignal; readonly requestId?: string };
