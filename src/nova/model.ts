/** What Nova speaks of, as far as the driver methods need it. Parsed once in wire.ts; of its fields none is trusted to be more than well-formed. */

export type NovaInstance = {
  readonly uuid: string;
  /** By `instance_name_template`: `instance-0000000c`. */
  readonly name: string;
  readonly displayName: string;
  readonly hostname?: string;
  readonly projectId?: string;
  /** What the user wrote on the server. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Absent where Nova has not loaded it (get_info). */
  readonly flavor?: Flavor;
  /** For cloud-init, as text. */
  readonly userData?: string;
  /** `deleting`, `resize_reverting`, ... */
  readonly taskState?: string;
};

export type Flavor = {
  readonly name: string;
  readonly vcpus: number;
  readonly memoryMb: number;
  /** 0: as large as the image. */
  readonly rootGb: number;
  readonly extraSpecs: Readonly<Record<string, string>>;
};

export type NovaImage = {
  /** Absent where the instance boots from a volume. */
  readonly id?: string;
  /** GiB */
  readonly minDisk: number;
};

export type VolumeMapping = {
  readonly volumeId: string;
  /** As Cinder gave it; may hold credentials. */
  readonly connectionInfo: unknown;
  /** A label: `/dev/sdb` */
  readonly device: string;
};

export type BlockDevices = {
  /** The root, where the instance boots from a volume. */
  readonly boot?: VolumeMapping;
  readonly volumes: readonly VolumeMapping[];
  /** Disks that are made with the instance and go with it: not supported. */
  readonly scratch: readonly string[];
};

export type NovaMigration = {
  readonly uuid?: string;
  readonly type?: string;
  /** Names of hosts. */
  readonly source?: string;
  readonly destination?: string;
};

export type NetworkPort = {
  readonly mac: string;
  /** `ovs`, `bridge`, ... */
  readonly type: string;
  readonly bridge?: string;
  /** Of the host's end: `tap1234abcd-56` */
  readonly hostName?: string;
  readonly mtu?: number;
};
