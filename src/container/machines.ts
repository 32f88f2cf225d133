/**
 * The life of containers that we make ourselves, and whose root file system is a mount of ours, outside of the runtime's directories.
 * Making one: `engine.reserveIds` for its uuid (a range that overlaps nobody's) -> `create` with that range -> the engine's `spawn`, which
 * mounts the root at `Instance.rootPath` -> the engine's `attach` for each volume -> `start`. Unmaking one: `stop` -> the engine's
 * `destroy` -> `remove`. Each may be done again at any time, also after a crash in the middle of the last.
 */
import type { InstanceRef } from '../engine/model.ts';
import type { Instance } from '../engine/ports.ts';
import type { IdRange } from '../idmap/idmap.ts';

/** What a container shall be. Everything in it comes from outside, and is checked by `create`. */
export type MachineSpec = {
  /** In the runtime: Nova's `instance.name`, for example `instance-0000000c`. */
  readonly name: string;
  /** Nova's uuid, by which it is found afterwards. */
  readonly uuid: string;
  readonly displayName: string;
  /** The user's project in Keystone: a label, not a project of the runtime. */
  readonly projectId?: string;
  readonly vcpus: number;
  readonly memoryMb: number;
  /** Keys of the runtime that a flavor may set: those of `MACHINE_CONFIG`. Others are refused. */
  readonly config?: Readonly<Record<string, string>>;
  /** For cloud-init, as text (Nova has it in base64). */
  readonly userData?: string;
  /** Default: `name`. */
  readonly hostname?: string;
  readonly networks: readonly MachineNetwork[];
  /**
   * Its host ids, the same for users and groups: those that `engine.reserveIds` gave. LXD 5.0 gives one range to several containers that
   * are made at once, so it is never left to the runtime.
   */
  readonly idRange: IdRange;
  /** Where its root file system is mounted already, for a container that was lost without it. Default: a new name in the roots' directory. */
  readonly rootPath?: string;
};

export type MachineNetwork = {
  /** Inside: `eth0` */
  readonly name: string;
  readonly mac: string;
  /** The host's bridge that it is put into; without one its host end is left to whoever plugs it (Open vSwitch by os-vif). */
  readonly bridge?: string;
  /** Of the host's end, at most 15 characters: `tap1234abcd-56`. Default: the runtime chooses. */
  readonly hostName?: string;
  readonly mtu?: number;
};

/** `crashed`: the runtime says that something is wrong with it. A start or stop under way counts as what it was before. */
export const POWER_STATES = ['running', 'paused', 'stopped', 'crashed'] as const;
export type PowerState = (typeof POWER_STATES)[number];

export type Diagnostics = {
  readonly state: PowerState;
  /** Used since the start, by all of its processors. */
  readonly cpuNs: number;
  readonly memoryBytes: number;
  readonly memoryPeakBytes: number;
  /** Processes and threads. */
  readonly pids: number;
  /** Since its init began; absent where it does not run. */
  readonly uptimeS?: number;
  readonly networks: readonly {
    readonly name: string;
    readonly mac: string;
    readonly rxBytes: number;
    readonly txBytes: number;
    readonly rxPackets: number;
    readonly txPackets: number;
  }[];
};

export type StopOptions = {
  /** For its init to end by itself; then it is killed. With `force` it is killed at once. */
  readonly timeoutMs: number;
  readonly force: boolean;
};

export type MachineChange = {
  readonly vcpus?: number;
  readonly memoryMb?: number;
  readonly displayName?: string;
  /** Keys of `MACHINE_CONFIG`; replaces all of those that were set. */
  readonly config?: Readonly<Record<string, string>>;
};

export interface Machines {
  /**
   * A stopped container that has its ids, and no root file system yet; where one has to be mounted is `rootPath` of what comes back. There
   * already with this uuid is success, and it is left as it is.
   * @throws SV_USAGE: a field is not accepted; SV_INSTANCE_EXISTS: another container has this name; SV_RANGE_TAKEN: another one has
   *   ids of these; SV_RUNTIME
   */
  create(spec: MachineSpec, signal: AbortSignal): Promise<Instance>;
  /**
   * Runs already is success; a paused one goes on.
   * @throws SV_INSTANCE_NOT_FOUND; SV_ATTACHMENT_NOT_FOUND: its root file system is not mounted; SV_RUNTIME with what its log says
   */
  start(ref: InstanceRef, signal: AbortSignal): Promise<void>;
  /** Stopped already is success. @throws SV_INSTANCE_NOT_FOUND */
  stop(ref: InstanceRef, options: StopOptions, signal: AbortSignal): Promise<void>;
  freeze(ref: InstanceRef, signal: AbortSignal): Promise<void>;
  unfreeze(ref: InstanceRef, signal: AbortSignal): Promise<void>;
  /**
   * Takes the container out of the runtime, which deletes all below its directories. "Not there" is success.
   * @throws SV_BUSY: it runs, its root file system is mounted, or something is below its directories; nothing has changed then.
   *   SV_USAGE: it is none of ours
   */
  remove(ref: InstanceRef, signal: AbortSignal): Promise<void>;
  /** Undefined: there is no such container. */
  power(ref: InstanceRef, signal: AbortSignal): Promise<PowerState | undefined>;
  /** Those that were made by `create` on this host. */
  list(signal: AbortSignal): Promise<readonly Machine[]>;
  /** The last `maxBytes` of what was written to its console; empty where that is kept by nobody. @throws SV_INSTANCE_NOT_FOUND */
  console(ref: InstanceRef, options: { readonly maxBytes: number }, signal: AbortSignal): Promise<string>;
  /** @throws SV_INSTANCE_NOT_FOUND */
  diagnostics(ref: InstanceRef, signal: AbortSignal): Promise<Diagnostics>;
  /** Takes effect at once, also on a running container. @throws SV_INSTANCE_NOT_FOUND, SV_USAGE */
  update(ref: InstanceRef, change: MachineChange, signal: AbortSignal): Promise<void>;
}

export type Machine = {
  readonly name: string;
  readonly uuid: string;
  readonly displayName: string;
  readonly state: PowerState;
  readonly vcpus: number;
  readonly memoryMb: number;
};
