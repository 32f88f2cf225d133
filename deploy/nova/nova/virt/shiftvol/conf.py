"""Section [shiftvol] of nova.conf."""
import nova.conf
from oslo_config import cfg

CONF = nova.conf.CONF

GROUP = cfg.OptGroup('shiftvol', title='shiftvol compute driver')
OPTIONS = [
    cfg.StrOpt('topic', default='shiftvol', help="Topic and exchange of the agent's RPC server."),
    cfg.IntOpt('rpc_timeout', default=60, min=1, help='Seconds for an answer to what takes milliseconds.'),
    cfg.IntOpt('long_rpc_timeout', default=3600, min=1, help='Seconds for what moves data.'),
    cfg.IntOpt('call_monitor_timeout', default=60, min=2,
               help='Seconds between two signs of life of the agent while it does long work.'),
    cfg.IntOpt('start_timeout', default=60, min=1, help='Seconds that nova-compute waits at its start for the agent.'),
]

CONF.register_group(GROUP)
CONF.register_opts(OPTIONS, group=GROUP)
