/** Every key of plugin.yaml with its default; what each means stands in plugin.yaml itself, by its comment. */
import { imageBinding, type VolumeBinding, volumeBinding } from './bindings.ts';
import { httpUrl } from './http-url.ts';
import {
  boolean,
  fraction,
  integer,
  isPrintable,
  list,
  nullable,
  object,
  oneOf,
  type Reader,
  size,
  string,
  switches,
} from './shape.ts';
import { transportUrl } from './transport-url.ts';

/** The events that can act, and whether they do unless told otherwise. What they do is fixed: see src/events/translate.ts. */
export const EVENT_SWITCHES = {
  'instance.create.start': true,
  'instance.create.error': true,
  'instance.volume_attach.start': false,
  'instance.volume_attach.end': true,
  'instance.volume_detach.start': true,
  'instance.volume_detach.end': false,
  'instance.delete.end': true,
  'instance.live_migration_post.end': true,
  'instance.live_migration_rollback_dest.end': true,
  'instance.resize_confirm.end': true,
  'instance.shelve_offload.end': true,
  'instance.rebuild.start': true,
  'instance.rebuild.end': true,
  'compute.instance.create.start': true,
  'compute.instance.create.error': true,
  'compute.instance.volume.attach': true,
  'compute.instance.volume.detach': true,
  'compute.instance.delete.end': true,
  'compute.instance.live_migration._post.end': true,
  'compute.instance.live_migration.rollback.dest.end': true,
  'compute.instance.resize.confirm.end': true,
  'compute.instance.shelve_offload.end': true,
  'compute.instance.rebuild.start': true,
  'compute.instance.rebuild.end': true,
  'volume.attach.end': true,
  'volume.detach.start': true,
  'volume.resize.end': true,
} as const satisfies Readonly<Record<string, boolean>>;
export type ActingEvent = keyof typeof EVENT_SWITCHES;

const absolutePath = (fallback?: string) =>
  string({
    ...(fallback === undefined ? {} : { fallback }),
    pattern: /^\/(?!.*(?:\/\/|\/\.{1,2}(?:\/|$)|\0))/,
    accepted: 'an absolute path without "//", "." and ".."',
  });
/** AMQP's short strings. */
const amqpName = (fallback?: string) =>
  string({
    ...(fallback === undefined ? {} : { fallback }),
    pattern: { test: text => text.length <= 200 && !text.startsWith('amq.') && isPrintable(text) },
    accepted: 'a name of up to 200 characters that does not begin with "amq."',
  });
const hostName = string({
  pattern: { test: text => /^[^\s/*#]{1,200}$/.test(text) && isPrintable(text) },
  accepted: 'a host name as Nova knows it',
});

const exchange = object({
  exchange: amqpName(),
  topics: list(amqpName(), ['notifications']),
  priorities: list(oneOf(['info', 'warn', 'error', 'audit', 'critical', 'debug', 'sample'], 'info'), ['info', 'error']),
});

const bus = object({
  listen: list(transportUrl, [], 64),
  url: nullable(transportUrl),
  queue: amqpName('shiftvol.{host}'),
  prefetch: integer({ fallback: 64, min: 1, max: 2000 }),
  exchanges: list(exchange, [
    { exchange: 'nova', topics: ['versioned_notifications', 'notifications'] },
    { exchange: 'openstack', topics: ['notifications'] },
    { exchange: 'cinder', topics: ['notifications'] },
  ]),
  source: oneOf(['services', 'router'], 'services'),
  route: object({
    exchange: amqpName('shiftvol.route'),
    queue: amqpName('shiftvol.router'),
    prefetch: integer({ fallback: 500, min: 1, max: 2000 }),
  }),
  rebind_ms: integer({ fallback: 2000, min: 50, max: 600_000 }),
  restore_exchanges: boolean(true),
  max_message: size(16 * 2 ** 20),
  queue_limits: object({
    max_length: integer({ fallback: 100_000, min: 100, max: 100_000_000 }),
    max_bytes: size(256 * 2 ** 20),
    expires_ms: integer({ fallback: 604_800_000, min: 0, max: 2_147_483_647 }),
  }),
  dead_letter: object({
    exchange: amqpName('shiftvol.dead'),
    queue: amqpName('shiftvol.dead'),
    max_length: integer({ fallback: 10_000, min: 10, max: 10_000_000 }),
    max_bytes: size(128 * 2 ** 20),
  }),
  retry: object({
    delay_ms: integer({ fallback: 5000, min: 50, max: 3_600_000 }),
    attempts: integer({ fallback: 24, min: 0, max: 10_000 }),
  }),
  events: object({
    exchange: amqpName('shiftvol'),
    topic: amqpName('notifications'),
    durable: boolean(false),
    queue: nullable(amqpName()),
    queue_max_length: integer({ fallback: 10_000, min: 10, max: 10_000_000 }),
  }),
  reconnect: object({
    min_ms: integer({ fallback: 500, min: 10, max: 600_000 }),
    max_ms: integer({ fallback: 3000, min: 10, max: 3_600_000 }),
    timeout_ms: integer({ fallback: 10_000, min: 100, max: 600_000 }),
  }),
  tls: object({
    ca: nullable(absolutePath()),
    cert: nullable(absolutePath()),
    key: nullable(absolutePath()),
  }),
  heartbeat_s: integer({ fallback: 15, min: 0, max: 3600 }),
  management_url: nullable(httpUrl({ accepted: 'http://user:password@host:15672', credentials: true })),
});

const bindings = object({
  hosts: list(hostName),
  events: switches(EVENT_SWITCHES),
  images: list(imageBinding, [{ image: '*', template: '{image_uuid}' }]),
  volumes: list(volumeBinding),
  roots_left_behind: oneOf(['keep', 'destroy'], 'keep'),
});

const rpc = object({
  enabled: boolean(true),
  url: nullable(transportUrl),
  exchange: amqpName('shiftvol'),
  topic: amqpName('shiftvol'),
  durable: boolean(false),
  quorum: boolean(false),
  auto_delete: boolean(false),
  transient_quorum: boolean(false),
  parallel: integer({ fallback: 64, min: 1, max: 2000 }),
});

const hostAndPort = (accepted: string) =>
  string({ pattern: /^(?:\[[0-9A-Fa-f:.]+\]|[^\s/:@[\]]{1,253}):\d{1,5}$/, accepted });
const migration = object({
  listen: nullable(hostAndPort('an address and a port, as 192.0.2.1:7780 or [2001:db8::1]:7780')),
  advertise: nullable(hostAndPort('a name or address and a port, as node1.example.org:7780')),
  tls: object({ ca: nullable(absolutePath()), cert: nullable(absolutePath()), key: nullable(absolutePath()) }),
});

const log = object({
  level: oneOf(['error', 'warn', 'info', 'debug'], 'info'),
  format: nullable(oneOf(['json', 'text', 'pretty'], 'text')),
});

const trace = object({
  otlp_endpoint: nullable(
    httpUrl({ accepted: 'http://host:4318 or https://, without user, password and "?",', credentials: false }),
  ),
  sample_ratio: fraction(1),
  service_name: string({
    fallback: 'shiftvol',
    pattern: { test: text => text.length <= 255 && isPrintable(text) },
    accepted: 'a name of up to 255 characters',
  }),
});

const http = object({
  listen: nullable(hostAndPort('an address and a port, as 127.0.0.1:9477 or [::1]:9477')),
  metrics: boolean(true),
  page: boolean(false),
  token_file: nullable(absolutePath()),
});

const nova = object({
  enabled: boolean(false),
  live_migration: oneOf(['refuse', 'stop_and_move'], 'refuse'),
  default_target: absolutePath('/mnt/{volume_id}'),
  stop_timeout_ms: integer({ fallback: 60_000, min: 0, max: 3_600_000 }),
  freeze_timeout_ms: integer({ fallback: 30_000, min: 100, max: 600_000 }),
  address: nullable(string({ pattern: /^[0-9A-Fa-f:.]{2,45}$/, accepted: 'an IP address of this host' })),
});

export const schema = object({
  name: string({ fallback: 'shiftvol' }),
  version: string({ fallback: '0.1.0' }),
  capabilities: list(string(), ['attach', 'detach', 'spawn', 'destroy']),
  host: nullable(hostName),
  state_dir: absolutePath('/var/lib/shiftvol'),
  run_dir: absolutePath('/run/shiftvol'),
  pool_dir: nullable(absolutePath()),
  subid_owner: string({ fallback: 'shiftvol', pattern: /^[^\s:]{1,64}$/, accepted: 'a user name or number' }),
  id_range_size: integer({ fallback: 65_536, min: 1, max: 4_294_901_760 }),
  parallel: integer({ fallback: 8, min: 1, max: 1024 }),
  spares: integer({ fallback: 0, min: 0, max: 64 }),
  freeze_deadline_ms: integer({ fallback: 5000, min: 100, max: 600_000 }),
  runtimes: object({
    lxd: object({
      socket: nullable(absolutePath()),
      project: string({ fallback: 'default', pattern: /^[^\s/]{1,63}$/, accepted: 'a project name' }),
    }),
  }),
  volumes: object({
    make_filesystem: nullable(oneOf(['ext4', 'xfs'], 'ext4')),
    multipath: boolean(false),
    keys_dir: nullable(absolutePath()),
    copy_freeze_ms: integer({ fallback: 60_000, min: 100, max: 600_000 }),
    local_paths: list(
      string({
        pattern: /^(?:\/(?!\.{1,2}(?:\/|$))[^/*\0]+)*\/(?!\.{1,2}$)(?:[^/*\0]+\*?|\*)$/,
        accepted: 'an absolute path without "//", "." and "..", its last name with or without "*" at its end',
      }),
    ),
  }),
  openstack: object({ cloud: nullable(string()), service_cloud: nullable(string()) }),
  bus,
  rpc,
  http,
  log,
  trace,
  nova,
  migration,
  bindings,
});

type Shape = typeof schema extends Reader<infer T> ? T : never;
/** What is in effect: the file, the environment and the command line put together; nothing left to guess. */
export type Config = Omit<Shape, 'host' | 'poolDir' | 'bus'> & {
  readonly host: string;
  readonly poolDir: string;
  readonly bus: Shape['bus'];
  /** The file that was read. */
  readonly file: string;
};
export type BusConfig = Config['bus'];
export type RpcConfig = Config['rpc'];
export type HttpConfig = Config['http'];
export type LogConfig = Config['log'];
export type TraceConfig = Config['trace'];
export type BindingsConfig = Config['bindings'];
export type ImageBindingConfig = BindingsConfig['images'][number];
export type VolumeBindingConfig = VolumeBinding;
