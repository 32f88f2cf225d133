"""
Run with the Python that has Nova: python3 -m pytest deploy/nova
SHIFTVOL_TRANSPORT_URL=rabbit://... goes over a real broker; without it oslo.messaging's own stand-in takes its place, and what depends on
the wire is left out.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..'))
sys.path.insert(0, os.path.dirname(__file__))
sys.dont_write_bytecode = True

import nova.cmd  # noqa: E402,F401  first: it makes the process eventlet's, as nova-compute is
import nova.conf  # noqa: E402
from nova import config, objects, rpc  # noqa: E402
import oslo_messaging as messaging  # noqa: E402
import oslo_messaging.conffixture  # noqa: E402,F401
import pytest  # noqa: E402
from responder import HOST, Responder  # noqa: E402

CONF = nova.conf.CONF
TRANSPORT_URL = os.environ.get('SHIFTVOL_TRANSPORT_URL', 'fake:/')


@pytest.fixture(scope='session', autouse=True)
def nova_process():
    config.parse_args(['nova-compute'], default_config_files=[], configure_db=False, init_rpc=False)
    CONF.set_override('host', HOST)
    CONF.set_override('my_ip', '192.0.2.11')
    messaging.conffixture.ConfFixture(CONF).setUp()  # registers what oslo.messaging would only register later
    CONF.set_override('transport_url', TRANSPORT_URL)
    rpc.init(CONF)
    objects.register_all()


@pytest.fixture(scope='session')
def agent(nova_process):
    """A real oslo.messaging server in this process that writes down what it is asked."""
    responder = Responder()
    server = messaging.get_rpc_server(
        rpc.TRANSPORT, messaging.Target(exchange='shiftvol', topic='shiftvol', server=HOST), [responder],
        executor='eventlet', access_policy=messaging.DefaultRPCAccessPolicy)
    server.start()
    yield responder
    server.stop()
    server.wait()


@pytest.fixture
def wire():
    if TRANSPORT_URL == 'fake:/':
        pytest.skip('SHIFTVOL_TRANSPORT_URL is not set: exceptions stay objects on the stand-in for a broker')


@pytest.fixture
def driver(agent):
    from nova.virt.shiftvol.driver import ShiftvolDriver
    agent.reset()
    made = ShiftvolDriver(None)
    made.init_host(HOST)
    agent.reset()
    return made
