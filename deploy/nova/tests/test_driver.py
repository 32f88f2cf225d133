import eventlet
from nova.compute import power_state
from nova.compute import provider_tree
from nova import exception
from nova import objects
from nova.virt.shiftvol import plain
import oslo_messaging as messaging
import pytest
import samples


@pytest.mark.parametrize('name, raised', [
    ('InstanceNotFound', exception.InstanceNotFound),
    ('DeviceDetachFailed', exception.DeviceDetachFailed),
    ('MigrationPreCheckError', exception.MigrationPreCheckError),
])
def test_an_exception_of_the_agents_is_novas_own_with_the_agents_text(wire, driver, agent, name, raised):
    agent.answers['pause'] = type(name, (Exception,), {'__module__': 'nova.exception'})('no such thing here')

    with pytest.raises(raised) as caught:
        driver.pause(samples.instance())

    assert caught.value.format_message() == 'no such thing here'


def test_what_the_agent_does_not_do_is_not_implemented(wire, driver, agent):
    agent.answers['suspend'] = NotImplementedError('suspend')

    with pytest.raises(NotImplementedError):
        driver.suspend(samples.context(), samples.instance())


def test_an_exception_of_another_module_is_a_remote_error(wire, driver, agent):
    agent.answers['pause'] = type('Odd', (Exception,), {'__module__': 'os'})('x')
    with pytest.raises(messaging.RemoteError):
        driver.pause(samples.instance())


@pytest.mark.parametrize('told, state', [
    ('running', power_state.RUNNING), ('paused', power_state.PAUSED), ('shutdown', power_state.SHUTDOWN),
    ('crashed', power_state.CRASHED), ('suspended', power_state.SUSPENDED), ('nostate', power_state.NOSTATE)])
def test_power_states(driver, agent, told, state):
    agent.answers['get_info'] = {'state': told}

    assert driver.get_info(samples.instance()).state == state


def test_resources_have_all_that_nova_wants(driver):
    told = driver.get_available_resource('compute1')

    assert told['hypervisor_hostname'] == 'compute1'
    assert told['cpu_info'] == '{"arch": "x86_64"}'
    assert told['numa_topology'] is None
    assert told['supported_instances'] == [('x86_64', 'lxd', 'exe')]
    # Nova makes its object of each of them, and refuses what it does not know.
    objects.ComputeNode().supported_hv_specs = [objects.HVSpec.from_list(s) for s in told['supported_instances']]


def test_placement_gets_inventory_and_traits(driver, agent):
    tree = provider_tree.ProviderTree()
    tree.new_root('compute1', 'c1c1c1c1-1111-4111-8111-111111111111', generation=1)

    driver.update_provider_tree(tree, 'compute1')

    node = tree.data('compute1')
    assert {name: (i['total'], i['reserved'], i['max_unit']) for name, i in node.inventory.items()} == {
        'VCPU': (8, 0, 8), 'MEMORY_MB': (8192, 512, 8192), 'DISK_GB': (100, 0, 100)}
    assert {'CUSTOM_SHIFTVOL', 'CUSTOM_SHIFTVOL_XFS'} <= set(node.traits)


def test_a_resource_of_which_there_is_none_is_no_inventory(driver, agent):
    agent.answers['get_available_resource'] = {**agent.answers['get_available_resource'], 'local_gb': 0}
    tree = provider_tree.ProviderTree()
    tree.new_root('compute1', 'c1c1c1c1-1111-4111-8111-111111111111', generation=1)

    driver.update_provider_tree(tree, 'compute1')

    assert set(tree.data('compute1').inventory) == {'VCPU', 'MEMORY_MB'}


def test_the_node_is_there_while_the_agent_is_away(driver):
    driver.agent = None

    assert driver.get_available_nodes() == ['compute1']
    assert driver.get_host_ip_addr() == '192.0.2.11'


def test_console_output_is_bytes_that_nova_cannot_stumble_over(driver):
    assert driver.get_console_output(samples.context(), samples.instance()) == 'Grüße\n'.encode()


def test_a_snapshot_goes_through_novas_task_states(driver, agent):
    states = []
    driver.snapshot(samples.context(), samples.instance(), 'an-image', lambda **given: states.append(given))

    assert [s['task_state'] for s in states] == ['image_pending_upload', 'image_uploading']
    assert agent.calls[-1][1]['image_id'] == 'an-image'


def test_a_cold_migration_names_the_host_it_goes_to(driver, agent, monkeypatch):
    monkeypatch.setattr(objects.Migration, 'get_by_id', lambda context, id_: samples.migration())
    moved = samples.instance()
    moved.migration_context = objects.MigrationContext(instance_uuid=moved.uuid, migration_id=3)

    text = driver.migrate_disk_and_power_off(
        samples.context(), moved, '192.0.2.12', samples.flavor(), samples.network_info())

    assert text == '{"from": "compute1"}'
    assert agent.calls[-1][1]['migration']['dest_compute'] == 'compute2'
    assert agent.calls[-1][1]['dest'] == '192.0.2.12'


@pytest.mark.parametrize('name, wrapped', [('MigrationError', True), ('ResizeError', True), ('NovaException', False)])
def test_a_migration_that_is_refused_leaves_the_instance_in_its_state(wire, driver, agent, name, wrapped):
    agent.answers['migrate_disk_and_power_off'] = type(name, (Exception,), {'__module__': 'nova.exception'})('too small')

    with pytest.raises(exception.NovaException) as caught:
        driver.migrate_disk_and_power_off(
            samples.context(), samples.instance(), '192.0.2.12', samples.flavor(), samples.network_info())

    assert isinstance(caught.value, exception.InstanceFaultRollback) == wrapped
    if wrapped:
        assert caught.value.inner_exception.format_message() == 'too small'


def test_what_the_agents_tell_each_other_travels_in_novas_migrate_data(driver, agent):
    data = driver.check_can_live_migrate_destination(samples.context(), samples.instance(), None, None)
    # It goes to the other host through the conductor.
    data = objects.base.NovaObjectSerializer().deserialize_entity(
        samples.context(), objects.base.NovaObjectSerializer().serialize_entity(samples.context(), data))
    data = driver.check_can_live_migrate_source(samples.context(), samples.instance(), data)
    assert agent.calls[-1][1]['dest_check_data'] == 'told by the destination'

    data = driver.pre_live_migration(samples.context(), samples.instance(), {}, [], None, data)
    assert agent.calls[-1][1]['migrate_data'] == 'told by the source'
    # The agent had nothing to add.
    assert plain.text_of(data) == 'told by the source'


@pytest.mark.parametrize('fails, ends', [(False, 'post'), (True, 'recover')])
def test_a_live_migration_ends_with_one_of_novas_methods(driver, agent, fails, ends):
    agent.answers['live_migration'] = ValueError('the other host is away') if fails else None
    ended = []

    driver.live_migration(samples.context(), samples.instance(), 'compute2', lambda *_: ended.append('post'),
                          lambda *_: ended.append('recover'), migrate_data=plain.migrate_data_with('told'))

    assert ended == [ends]


def test_network_info_that_is_still_being_asked_for_is_waited_for(driver, agent):
    from nova.network import model
    slow = model.NetworkInfoAsyncWrapper(lambda: (eventlet.sleep(0.1), samples.network_info())[1])

    driver.spawn(samples.context(), samples.instance(), samples.image_meta(), [], 'a-password', {}, slow)

    assert [vif['id'] for vif in agent.calls[-1][1]['network_info']] == ['a-port']
    assert 'admin_password' not in agent.calls[-1][1]


def test_other_work_goes_on_while_the_agent_works(driver, agent):
    agent.delay = 0.5
    ticks = []
    ticker = eventlet.spawn(lambda: [(eventlet.sleep(0.05), ticks.append(1)) for _ in range(100)])

    driver.pause(samples.instance())

    ticker.kill()
    assert len(ticks) >= 5


def test_an_agent_that_is_not_there_ends_the_start(agent, monkeypatch):
    from nova.virt.shiftvol import agent as agent_module
    from nova.virt.shiftvol.driver import ShiftvolDriver
    monkeypatch.setattr(agent_module, 'KNOCK_SECONDS', 0.1)
    agent_module.CONF.set_override('start_timeout', 1, group='shiftvol')

    with pytest.raises(messaging.MessagingTimeout):
        ShiftvolDriver(None).init_host('nowhere')

    agent_module.CONF.clear_override('start_timeout', group='shiftvol')
