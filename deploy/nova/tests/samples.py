"""What Nova passes: its own objects, made by hand."""
from nova import context as nova_context
from nova.network import model
from nova import objects
from nova.virt.shiftvol import plain

UUID = '7d7e7a0e-6f4f-4f2c-8b3b-1f8b0d3c9a11'
VOLUME = '1b4c8f3e-0d9a-4e53-9a52-0a8f1f1f3c22'
SECRETS = ('a-token', 'a-password')


def context():
    return nova_context.RequestContext(
        user_id='alice', project_id='demo', auth_token='a-token', request_id='req-1', global_request_id='req-0')


def flavor():
    return objects.Flavor(id=1, name='small', flavorid='s1', vcpus=1, memory_mb=128, root_gb=1, ephemeral_gb=0, swap=0,
                          extra_specs={'shiftvol:mount': '/data'})


def instance(**more):
    return objects.Instance(
        context=context(), id=12, uuid=UUID, display_name='one', hostname='one', project_id='demo', user_id='alice',
        host='compute1', node='compute1', image_ref='an-image', user_data='IyEvYmluL3No', config_drive='',
        vm_state='building', task_state='spawning', power_state=1, metadata={'app': 'x'},
        system_metadata={'image_os': 'busybox', 'password_0': 'a-password'}, flavor=flavor(), migration_context=None,
        **more)


def image_meta():
    return objects.ImageMeta(
        id='an-image', name='busybox', disk_format='raw', container_format='bare', checksum='c0ffee', size=67108864,
        min_disk=0, properties=objects.ImageMetaProps(hw_architecture='x86_64', img_hv_type='lxd'))


def migration():
    return objects.Migration(id=3, uuid='b3', migration_type='migration', source_compute='compute1',
                             dest_compute='compute2', status='migrating')


def connection_info():
    return {'driver_volume_type': 'nfs', 'serial': VOLUME, 'data': {'export': '127.0.0.1:/export', 'name': 'volume-1'}}


def network_info():
    return model.NetworkInfo([model.VIF(id='a-port', address='fa:16:3e:00:00:01')])


def argument(name):
    """A value for each parameter name of ComputeDriver."""
    made = {
        'context': context, 'instance': instance, 'flavor': flavor, 'image_meta': image_meta, 'migration': migration,
        'network_info': network_info, 'connection_info': connection_info, 'old_connection_info': connection_info,
        'new_connection_info': connection_info, 'dest_check_data': lambda: plain.migrate_data_with('told'),
        'migrate_data': lambda: plain.migrate_data_with('told'),
        'block_device_info': lambda: {'root_device_name': '/dev/sda', 'image': [], 'ephemerals': [], 'swap': None,
                                      'block_device_mapping': [{'connection_info': connection_info(), 'boot_index': 0}]},
        'injected_files': lambda: [('/etc/motd', 'hello')],
        'admin_password': lambda: 'a-password', 'rescue_password': lambda: 'a-password',
        'update_task_state': lambda: (lambda **_: None), 'post_method': lambda: (lambda *_: None),
        'recover_method': lambda: (lambda *_: None), 'bad_volumes_callback': lambda: (lambda *_: None),
        'src_compute_info': lambda: object(), 'dst_compute_info': lambda: object(),
        'allocations': lambda: {'a-provider': {'resources': {'VCPU': 1}}}, 'use_cache': lambda: True,
    }
    return made.get(name, lambda: f'any {name}')()
