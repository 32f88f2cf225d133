"""README.md says what goes over the bus; the other side was written from it. Here every row of it is made true."""
import inspect
import json
import os
import re
import uuid

from nova.virt import driver as nova_driver
from nova.virt.shiftvol.driver import ShiftvolDriver
import pytest
import samples

README = os.path.join(os.path.dirname(__file__), '..', 'README.md')
KEPT_AT_HOME = {'init_host', 'get_available_nodes', 'get_host_ip_addr', 'update_provider_tree'}


def rows():
    with open(README) as file:
        table = file.read().split('### Methods\n')[1].split('\n\n')[0]
    for line in table.splitlines()[2:]:
        method, arguments, _ = (cell.strip() for cell in line.strip('|').split('|', 2))
        names = re.sub(r'\([^)]*\)', '', arguments)
        yield pytest.param(method.split()[0], '*long*' in method, {n.strip() for n in names.split(',') if n.strip()},
                           id=method.split()[0])


def called(driver, name):
    """Calls the driver as Nova does: every parameter of its own signature."""
    parameters = [p for p in inspect.signature(getattr(driver, name)).parameters]
    return getattr(driver, name)(**{p: samples.argument(p) for p in parameters})


@pytest.mark.parametrize('method, long, arguments', rows())
def test_the_method_calls_the_agent_with_these_arguments(driver, agent, monkeypatch, method, long, arguments):
    limits = []
    client = type(driver.agent._client)
    prepare = client.prepare
    monkeypatch.setattr(client, 'prepare', lambda self, **given: limits.append(given) or prepare(self, **given))

    driver.init_host('compute1') if method == 'init_host' else called(driver, method)

    name, sent, context = agent.calls[-1]
    assert name == method
    assert set(sent) == arguments
    assert ('call_monitor_timeout' in limits[-1]) == long
    assert set(context) >= {'request_id', 'global_request_id'}
    wire = json.dumps([sent, context])
    assert not [secret for secret in samples.SECRETS if secret in wire]


def test_a_call_that_osprofiler_traces_says_where_it_is_and_not_its_key(driver, agent):
    profiler = pytest.importorskip('osprofiler.profiler')
    traced = profiler.init('the-key', base_id=str(uuid.uuid4()))
    try:
        driver.get_info(samples.instance())
    finally:
        profiler.clean()

    _, _, context = agent.calls[-1]
    assert context['trace_info'] == {'base_id': traced.get_base_id(), 'parent_id': traced.get_id()}
    driver.get_info(samples.instance())
    assert 'trace_info' not in agent.calls[-1][2]


@pytest.mark.parametrize('name', [n for n, f in inspect.getmembers(ShiftvolDriver, inspect.isfunction)
                                  if f is not getattr(nova_driver.ComputeDriver, n, None) and not n.startswith('_')])
def test_the_signature_is_novas(name):
    declared = inspect.signature(getattr(nova_driver.ComputeDriver, name))

    assert inspect.signature(getattr(ShiftvolDriver, name)) == declared


def test_the_table_has_every_method_that_the_driver_has():
    ours = {n for n, f in inspect.getmembers(ShiftvolDriver, inspect.isfunction)
            if f is not getattr(nova_driver.ComputeDriver, n, None) and not n.startswith('_')}

    assert {row.id for row in rows()} == ours - KEPT_AT_HOME | {'init_host'}


def test_every_capability_of_nova_has_a_value():
    assert set(ShiftvolDriver.capabilities) == set(nova_driver.ComputeDriver.capabilities)


def test_the_instance_goes_as_the_readme_has_it(driver, agent):
    driver.pause(samples.instance())

    sent = agent.calls[-1][1]['instance']
    assert sent == {
        'uuid': samples.UUID, 'name': 'instance-0000000c', 'display_name': 'one', 'hostname': 'one',
        'project_id': 'demo', 'user_id': 'alice', 'host': 'compute1', 'node': 'compute1', 'image_ref': 'an-image',
        'metadata': {'app': 'x'}, 'system_metadata': {'image_os': 'busybox'}, 'user_data': 'IyEvYmluL3No',
        'config_drive': '', 'power_state': 'running', 'vm_state': 'building', 'task_state': 'spawning',
        'flavor': {'name': 'small', 'flavorid': 's1', 'vcpus': 1, 'memory_mb': 128, 'root_gb': 1, 'ephemeral_gb': 0,
                   'swap': 0, 'extra_specs': {'shiftvol:mount': '/data'}},
    }


def test_the_image_goes_without_what_is_not_set(driver, agent):
    from nova import objects
    driver.quiesce(samples.context(), samples.instance(), objects.ImageMeta(properties=objects.ImageMetaProps()))
    assert agent.calls[-1][1]['image_meta']['id'] is None

    driver.quiesce(samples.context(), samples.instance(), samples.image_meta())
    assert agent.calls[-1][1]['image_meta']['properties'] == {'hw_architecture': 'x86_64', 'img_hv_type': 'lxd'}


def test_get_info_asks_the_database_for_nothing(driver, agent):
    from nova import objects
    bare = objects.Instance(context=samples.context(), id=12, uuid=samples.UUID, project_id='demo')

    driver.get_info(bare)

    sent = agent.calls[-1][1]['instance']
    assert (sent['uuid'], sent['flavor'], sent['metadata']) == (samples.UUID, None, None)
