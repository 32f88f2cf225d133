/** What of Nova's driver interface is there: deploy/OPENSTACK.md has it as a table, and a test compares the two. */

export type Support = 'supported' | 'partial' | 'not';
export type Row = { readonly support: Support; readonly note: string };

const yes = (note = '') => ({ support: 'supported', note }) as const;
const partly = (note: string) => ({ support: 'partial', note }) as const;
const no = (note: string) => ({ support: 'not', note }) as const;

/** Methods of nova.virt.driver.ComputeDriver by name. What is `not` supported raises NotImplementedError at the caller. */
export const SUPPORT = {
  init_host: yes(),
  spawn: yes('image of any format that `template import` reads, or boot from volume; no ephemeral and swap disks'),
  destroy: yes('lets go of every volume; a volume is never erased'),
  cleanup: yes(),
  reboot: yes('soft: the init is asked first; hard: volumes are attached again'),
  power_on: yes('volumes that a reboot of the host took are attached again'),
  power_off: yes(),
  pause: yes('cgroup freezer'),
  unpause: yes(),
  suspend: partly('as pause: the memory stays in use, and after a reboot of the host it is a start'),
  resume: partly('see suspend'),
  resume_state_on_host_boot: yes(),
  get_info: yes(),
  list_instances: yes(),
  list_instance_uuids: yes(),
  instance_on_disk: yes('true for what is on this host'),
  get_available_resource: yes('processors and memory of the cgroup where that has less; disk: the pool'),
  get_available_nodes: yes(),
  get_host_ip_addr: yes(),
  get_host_uptime: yes(),
  get_volume_connector: yes(),
  attach_volume: yes(
    'mounted in the running container, at the path that was chosen (below); of multiattach volumes for reading only',
  ),
  detach_volume: yes('refused while a process uses it'),
  extend_volume: yes('the file system grows online; never smaller'),
  swap_volume: partly(
    'migration and retype of a volume: copied while the instance is stopped, or frozen for as long as `volumes.copy_freeze_ms` allows and not in use in it; not encrypted ones, btrfs, the root of an instance that runs',
  ),
  snapshot: yes('frozen for a moment, then uploaded as qcow2, without its holes'),
  quiesce: yes('every mounted file system is frozen; never for longer than the deadline'),
  unquiesce: yes(),
  get_console_output: yes(),
  get_diagnostics: yes(),
  migrate_disk_and_power_off: partly(
    'resize on the same host; to another host instances that boot from a volume, and others where `migration.listen` is set: their root goes ahead while they run',
  ),
  finish_migration: partly('see migrate_disk_and_power_off; answers how long the instance was down'),
  confirm_migration: yes(),
  finish_revert_migration: partly('a root file system that was grown stays as large'),
  check_can_live_migrate_destination: partly(
    'refused, unless `nova.live_migration` is `stop_and_move`: stopped, moved, started; instances that boot from a volume',
  ),
  check_can_live_migrate_source: partly('see check_can_live_migrate_destination'),
  cleanup_live_migration_destination_check: yes(),
  pre_live_migration: partly('see check_can_live_migrate_destination'),
  live_migration: partly('see check_can_live_migrate_destination'),
  post_live_migration: partly('see check_can_live_migrate_destination'),
  post_live_migration_at_source: yes(),
  post_live_migration_at_destination: partly('see check_can_live_migrate_destination'),
  rollback_live_migration_at_source: partly('see check_can_live_migrate_destination'),
  rollback_live_migration_at_destination: partly('see check_can_live_migrate_destination'),
  rescue: no(
    'there is no other kernel that it needs to get at its files: running or stopped, its root is mounted on the host, `shiftvol show` tells where; users boot an image of it (`openstack server image create`), or attach its boot volume to another server',
  ),
  unrescue: no('see rescue'),
  attach_interface: no('ports are given at boot, and stay: `openstack server create --port`'),
  detach_interface: no('see attach_interface'),
  trigger_crash_dump: no('a container has no kernel of its own'),
  set_admin_password: no('cloud-init with user data'),
  change_instance_metadata: no('cloud-init with user data'),
  inject_network_info: no('DHCP or cloud-init'),
  reset_network: no('DHCP or cloud-init'),
  host_power_action: no('the host’s own tools'),
  host_maintenance_mode: no('openstack compute service set --disable'),
  set_host_enabled: no('Nova’s own service state'),
  get_vnc_console: no('a container has no screen'),
  get_spice_console: no('a container has no screen'),
  get_rdp_console: no('a container has no screen'),
  get_serial_console: no('`openstack console log show` is there'),
  get_mks_console: no('a container has no screen'),
  volume_snapshot_create: no('Cinder’s own snapshots'),
  volume_snapshot_delete: no('Cinder’s own snapshots'),
  rebuild: no('Nova’s own way (destroy, spawn) is used'),
  check_instance_shared_storage_local: no('the pool is this host’s own'),
  check_instance_shared_storage_remote: no('the pool is this host’s own'),
  check_instance_shared_storage_cleanup: no('the pool is this host’s own'),
} as const satisfies Readonly<Record<string, Row>>;

export type DriverMethod = keyof typeof SUPPORT;
type WithSupport<S> = { [M in DriverMethod]: (typeof SUPPORT)[M]['support'] extends S ? M : never }[DriverMethod];
/** What is there, if only in part. */
export type SupportedMethod = WithSupport<'supported' | 'partial'>;

/** The rows of the table in deploy/OPENSTACK.md. */
export function supportRows(): readonly string[] {
  return Object.entries(SUPPORT).map(
    ([method, { support, note }]) => `| \`${method}\` | ${SHOWN[support]} | ${note} |`,
  );
}
const SHOWN = { supported: 'yes', partial: 'in part', not: 'no' } as const satisfies Record<Support, string>;
