"""Nova's objects as plain JSON, as the contract has them."""
from nova.compute import power_state
from nova.objects import migrate_data as migrate_data_objects

# The contract's names; Nova's are numbers.
POWER_STATES = {
    'nostate': power_state.NOSTATE,
    'running': power_state.RUNNING,
    'paused': power_state.PAUSED,
    'shutdown': power_state.SHUTDOWN,
    'crashed': power_state.CRASHED,
    'suspended': power_state.SUSPENDED,
}
POWER_STATE_NAMES = {number: name for name, number in POWER_STATES.items()}

INSTANCE = ('uuid', 'display_name', 'hostname', 'project_id', 'user_id', 'host', 'node', 'image_ref', 'user_data',
            'config_drive', 'vm_state', 'task_state')
FLAVOR = ('name', 'flavorid', 'vcpus', 'memory_mb', 'root_gb', 'ephemeral_gb', 'swap')
IMAGE_META = ('id', 'name', 'disk_format', 'container_format', 'checksum', 'size', 'min_disk')
MIGRATION = ('uuid', 'migration_type', 'source_compute', 'dest_compute', 'status')


def loaded_instance(it):
    """Without a question to the database: what is not loaded is None."""
    known = {name: _loaded(it, name) for name in INSTANCE}
    metadata, system_metadata = _loaded(it, 'metadata'), _loaded(it, 'system_metadata')
    return {
        **known,
        'name': it.name,
        'power_state': POWER_STATE_NAMES.get(_loaded(it, 'power_state')),
        'metadata': None if metadata is None else dict(metadata),
        'system_metadata': None if system_metadata is None else {
            name: value for name, value in system_metadata.items() if name.startswith('image_')},
        'flavor': flavor(_loaded(it, 'flavor')),
    }


def instance(it):
    for name in ('metadata', 'system_metadata', 'flavor'):
        getattr(it, name)  # loads it
    return loaded_instance(it)


def flavor(it):
    if it is None:
        return None
    return {**{name: _loaded(it, name) for name in FLAVOR}, 'extra_specs': dict(_loaded(it, 'extra_specs') or {})}


def image_meta(it):
    properties = _loaded(it, 'properties')
    return {
        **{name: _loaded(it, name) for name in IMAGE_META},
        'properties': {} if properties is None else {
            name: getattr(properties, name) for name in properties.obj_fields if properties.obj_attr_is_set(name)},
    }


def migration(it):
    return None if it is None else {name: _loaded(it, name) for name in MIGRATION}


def network_info(it):
    """At spawn it may be one that is still being asked for: going through it waits."""
    return [] if it is None else list(it)


def file_paths(injected_files):
    return [path for path, _ in injected_files or ()]


def text_of(migrate_data):
    return _loaded(migrate_data, 'filename') if migrate_data is not None else None


def migrate_data_with(text):
    """
    The conductor hands it from host to host and must know its class, so it is one of Nova's own: `filename` carries what our agents
    tell each other. Storage is said to be shared, so that Nova copies no disks and calls the source's clean-up.
    """
    return migrate_data_objects.LibvirtLiveMigrateData(
        filename=text or '', image_type='', block_migration=False, disk_over_commit=False, disk_available_mb=0,
        is_shared_instance_path=True, is_shared_block_storage=True)


def _loaded(it, name):
    return getattr(it, name) if it.obj_attr_is_set(name) else None
