"""compute_driver = shiftvol.driver.ShiftvolDriver"""
from nova.compute import task_states
from nova import exception
from nova import objects
from nova.virt import driver
from nova.virt import hardware
from nova.virt.shiftvol import plain
from nova.virt.shiftvol.agent import Agent
from nova.virt.shiftvol.calls import with_calls
from nova.virt.shiftvol.conf import CONF
import os_resource_classes as orc
from oslo_log import log as logging
from oslo_serialization import jsonutils

LOG = logging.getLogger(__name__)
TRAIT = 'CUSTOM_SHIFTVOL'
# After these the instance is what it was, and Nova must not set it to ERROR.
UNCHANGED = (exception.MigrationError, exception.ResizeError)


@with_calls
class ShiftvolDriver(driver.ComputeDriver):
    """What is here has something to do beside the call; all that is not is in calls.py."""

    capabilities = {
        **driver.ComputeDriver.capabilities,
        'supports_evacuate': True,
        'supports_extend_volume': True,
        'supports_image_type_qcow2': True,
        'supports_image_type_raw': True,
        # What is mounted on two hosts at once is destroyed.
        'supports_multiattach': False,
    }

    def init_host(self, host):
        self.agent = Agent(host)
        answer = self.agent.await_start(host)
        LOG.info('shiftvol agent %s on host %s', answer['version'], host)

    # --- the host

    def get_host_ip_addr(self):
        return CONF.my_ip

    def get_available_nodes(self, refresh=False):
        """Not the agent's to say: a node that is gone because the agent is away would be deleted from Nova and Placement."""
        return [CONF.host]

    def get_available_resource(self, nodename):
        told = self._resources(nodename)
        return {
            **told,
            'hypervisor_hostname': nodename,
            'cpu_info': jsonutils.dumps(told['cpu_info']) if isinstance(told['cpu_info'], dict) else told['cpu_info'],
            'numa_topology': None,
            'supported_instances': [tuple(each) for each in told['supported_instances']],
        }

    def update_provider_tree(self, provider_tree, nodename, allocations=None):
        told = self._resources(nodename)
        ratios = self._get_allocation_ratios(provider_tree.data(nodename).inventory)
        totals = {
            orc.VCPU: (told['vcpus'], CONF.reserved_host_cpus),
            orc.MEMORY_MB: (told['memory_mb'], CONF.reserved_host_memory_mb),
            orc.DISK_GB: (told['local_gb'], self._get_reserved_host_disk_gb_from_config()),
        }
        # Placement refuses an inventory of nothing.
        provider_tree.update_inventory(nodename, {
            name: {'total': total, 'reserved': min(reserved, total), 'min_unit': 1, 'max_unit': total, 'step_size': 1,
                   'allocation_ratio': ratios[name]}
            for name, (total, reserved) in totals.items() if total > 0})
        provider_tree.add_traits(nodename, TRAIT, *told.get('traits', ()))

    def _resources(self, nodename):
        return self.agent.call('get_available_resource', nodename=nodename)

    # --- instances

    def get_info(self, instance, use_cache=True):
        told = self.agent.call('get_info', instance=plain.loaded_instance(instance))
        return hardware.InstanceInfo(state=plain.POWER_STATES[told['state']])

    def get_console_output(self, context, instance):
        # Nova would encode text as Latin-1, and fail at what is not.
        return self.agent.call('get_console_output', instance=plain.instance(instance)).encode()

    def snapshot(self, context, instance, image_id, update_task_state):
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        update_task_state(task_state=task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD)
        self.agent.call('snapshot', long=True, instance=plain.instance(instance), image_id=image_id)

    # --- migration

    def migrate_disk_and_power_off(self, context, instance, dest, flavor, network_info, block_device_info=None,
                                   timeout=0, retry_interval=0):
        """`dest` is an address; the migration's own record has the name of the host."""
        moved = instance.migration_context
        migration = None if moved is None else objects.Migration.get_by_id(context, moved.migration_id)
        try:
            return self.agent.call(
                'migrate_disk_and_power_off', long=True, instance=plain.instance(instance), dest=dest,
                flavor=plain.flavor(flavor), network_info=plain.network_info(network_info),
                block_device_info=block_device_info, timeout=timeout, retry_interval=retry_interval,
                migration=plain.migration(migration))
        except UNCHANGED as error:
            raise exception.InstanceFaultRollback(inner_exception=error) from error

    def check_can_live_migrate_destination(self, context, instance, src_compute_info, dst_compute_info,
                                           block_migration=False, disk_over_commit=False):
        return plain.migrate_data_with(self.agent.call(
            'check_can_live_migrate_destination', instance=plain.instance(instance), block_migration=block_migration,
            disk_over_commit=disk_over_commit))

    def check_can_live_migrate_source(self, context, instance, dest_check_data, block_device_info=None):
        return _with_text(dest_check_data, self.agent.call(
            'check_can_live_migrate_source', instance=plain.instance(instance),
            dest_check_data=plain.text_of(dest_check_data), block_device_info=block_device_info))

    def pre_live_migration(self, context, instance, block_device_info, network_info, disk_info, migrate_data):
        return _with_text(migrate_data, self.agent.call(
            'pre_live_migration', long=True, instance=plain.instance(instance), block_device_info=block_device_info,
            network_info=plain.network_info(network_info), disk_info=disk_info,
            migrate_data=plain.text_of(migrate_data)))

    def live_migration(self, context, instance, dest, post_method, recover_method, block_migration=False,
                       migrate_data=None):
        try:
            self.agent.call('live_migration', long=True, instance=plain.instance(instance), dest=dest,
                            block_migration=block_migration, migrate_data=plain.text_of(migrate_data))
        except Exception:
            LOG.exception('Live migration failed, Nova rolls back', instance=instance)
            # Raising as well would leave the instance in ERROR.
            recover_method(context, instance, dest, migrate_data)
            return
        post_method(context, instance, dest, block_migration, migrate_data)


def _with_text(migrate_data, text):
    if text is not None:
        migrate_data.filename = text
    return migrate_data
