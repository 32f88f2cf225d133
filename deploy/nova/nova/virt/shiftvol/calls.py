"""Which of ComputeDriver's methods are calls to the agent as they are, and what of their arguments goes along."""
import functools
import inspect

from nova.virt import driver
from nova.virt.shiftvol import plain

# Arguments that are not plain JSON already.
PLAIN = {
    'instance': plain.instance,
    'flavor': plain.flavor,
    'image_meta': plain.image_meta,
    'migration': plain.migration,
    'network_info': plain.network_info,
    'injected_files': plain.file_paths,
    'dest_check_data': plain.text_of,
    'migrate_data': plain.text_of,
}

# Answers come in milliseconds.
SHORT = {
    'list_instances': '',
    'list_instance_uuids': '',
    'instance_on_disk': 'instance',
    'get_host_uptime': '',
    'get_volume_connector': 'instance',
    'pause': 'instance',
    'unpause': 'instance',
    'trigger_crash_dump': 'instance',
    'attach_interface': 'instance image_meta vif',
    'detach_interface': 'instance vif',
    'quiesce': 'instance image_meta',
    'unquiesce': 'instance image_meta',
    'get_diagnostics': 'instance',
    'cleanup_live_migration_destination_check': 'dest_check_data',
}

# Data moves, or something is waited for.
LONG = {
    'spawn': 'instance image_meta injected_files allocations network_info block_device_info power_on accel_info',
    'destroy': 'instance network_info block_device_info destroy_disks destroy_secrets',
    'cleanup': 'instance network_info block_device_info destroy_disks destroy_vifs destroy_secrets',
    'reboot': 'instance network_info reboot_type block_device_info accel_info',
    'power_off': 'instance timeout retry_interval',
    'power_on': 'instance network_info block_device_info accel_info',
    'suspend': 'instance',
    'resume': 'instance network_info block_device_info',
    'resume_state_on_host_boot': 'instance network_info block_device_info',
    'rescue': 'instance network_info image_meta block_device_info',
    'unrescue': 'instance',
    'attach_volume': 'connection_info instance mountpoint disk_bus device_type encryption',
    'detach_volume': 'connection_info instance mountpoint encryption',
    'swap_volume': 'old_connection_info new_connection_info instance mountpoint resize_to',
    'extend_volume': 'connection_info instance requested_size',
    'finish_migration': 'migration instance disk_info network_info image_meta resize_instance allocations '
                        'block_device_info power_on',
    'confirm_migration': 'migration instance network_info',
    'finish_revert_migration': 'instance network_info migration block_device_info power_on',
    'post_live_migration': 'instance block_device_info migrate_data',
    'post_live_migration_at_source': 'instance network_info',
    'post_live_migration_at_destination': 'instance network_info block_migration block_device_info',
    'rollback_live_migration_at_source': 'instance migrate_data',
    'rollback_live_migration_at_destination': 'instance network_info block_device_info destroy_disks migrate_data',
}


def forwarded(name, arguments, long):
    """ComputeDriver's method of this name with its own signature: calls the agent, and returns what that answers."""
    declared = getattr(driver.ComputeDriver, name)
    signature = inspect.signature(declared)

    @functools.wraps(declared)
    def method(self, *args, **kwargs):
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        return self.agent.call(name, long=long, **to_plain(given.arguments, arguments))

    return method


def to_plain(given, arguments):
    return {name: PLAIN.get(name, _as_is)(given.get(name)) for name in arguments.split()}


def with_calls(cls):
    """Gives the class every method that needs nothing but the call."""
    for table, long in ((SHORT, False), (LONG, True)):
        for name, arguments in table.items():
            setattr(cls, name, forwarded(name, arguments, long))
    return cls


def _as_is(value):
    return value
