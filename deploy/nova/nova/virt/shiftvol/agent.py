"""The agent of this host, as seen from Nova."""
import time

from oslo_context import context as oslo_context
from oslo_log import log as logging
import oslo_messaging as messaging
from oslo_utils import importutils

from nova import rpc
from nova.virt.shiftvol.conf import CONF

LOG = logging.getLogger(__name__)
profiler = importutils.try_import('osprofiler.profiler')
# One try to reach an agent that may still be starting.
KNOCK_SECONDS = 5


class Agent:
    """Goes over Nova's own connection to the bus: it makes nova.exception's classes again from what the agent raises."""

    def __init__(self, host):
        target = messaging.Target(exchange=CONF.shiftvol.topic, topic=CONF.shiftvol.topic, server=host, version='1.0')
        self._client = messaging.get_rpc_client(rpc.TRANSPORT, target)

    def call(self, method, long=False, **arguments):
        limits = {'timeout': CONF.shiftvol.rpc_timeout}
        if long:
            limits = {'timeout': CONF.shiftvol.long_rpc_timeout,
                      'call_monitor_timeout': CONF.shiftvol.call_monitor_timeout}
        return self._client.prepare(**limits).call(_request_ids(), method, **arguments)

    def await_start(self, host):
        """The agent's answer to init_host. A message that is sent before its queue exists is lost: so it is sent again."""
        end = time.monotonic() + CONF.shiftvol.start_timeout
        while True:
            try:
                return self._client.prepare(timeout=KNOCK_SECONDS).call(_request_ids(), 'init_host', host=host)
            except messaging.MessagingTimeout:
                if time.monotonic() >= end:
                    LOG.error('No shiftvol agent answers for host %s: is "shiftvol serve" running, with the same '
                              'transport_url and host?', host)
                    raise
                LOG.warning('No shiftvol agent answers for host %s yet', host)


def _request_ids():
    """What tells one request from another in the logs. The rest of Nova's context, with its token, stays here."""
    context = oslo_context.get_current()
    return {'request_id': getattr(context, 'request_id', None),
            'global_request_id': getattr(context, 'global_request_id', None),
            **_trace_info()}


def _trace_info():
    """Where osprofiler is in a trace, so that the agent's spans come to lie below Nova's. Its key stays here."""
    traced = profiler.get() if profiler else None
    return {'trace_info': {'base_id': traced.get_base_id(), 'parent_id': traced.get_id()}} if traced else {}
