"""Stands where the agent is, in the tests of the driver alone."""
import time

HOST = 'compute1'
RESOURCES = {
    'vcpus': 8, 'memory_mb': 8192, 'local_gb': 100, 'vcpus_used': 1, 'memory_mb_used': 128, 'local_gb_used': 2,
    'cpu_info': {'arch': 'x86_64'}, 'hypervisor_type': 'shiftvol', 'hypervisor_version': 1000,
    'supported_instances': [['x86_64', 'lxd', 'exe']], 'traits': ['CUSTOM_SHIFTVOL_XFS'],
}
ANSWERS = {
    'init_host': {'version': '0.1.0'},
    'get_info': {'state': 'running'},
    'get_available_resource': RESOURCES,
    'get_console_output': 'Grüße\n',
    'migrate_disk_and_power_off': '{"from": "compute1"}',
    'check_can_live_migrate_destination': 'told by the destination',
    'check_can_live_migrate_source': 'told by the source',
}


class Responder:
    def __init__(self):
        self.reset()

    def reset(self):
        self.calls = []
        self.answers = dict(ANSWERS)
        self.delay = 0

    def __getattr__(self, name):
        """Every method there is: what to refuse is for each test to say."""
        if name.startswith('_') or name == 'target':
            raise AttributeError(name)

        def method(context, **arguments):
            self.calls.append((name, arguments, context))
            time.sleep(self.delay)
            answer = self.answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return method
