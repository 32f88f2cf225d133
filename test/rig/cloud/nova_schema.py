"""Nova's databases and its one cell: nova_schema.py NOVA_CONF CELL0_URL. What is there is left as it is."""
import sys

from nova.cmd import manage  # first: it makes the process eventlet's
from nova import config
from nova import objects

FINE = (None, 0)
THERE_ALREADY = 2

config.parse_args(['nova-manage', '--config-file', sys.argv[1]])
objects.register_all()
for what, status in (
        ('api_db sync', manage.ApiDbCommands().sync()),
        ('cell_v2 map_cell0', manage.CellV2Commands().map_cell0(sys.argv[2])),
        ('db sync', manage.DbCommands().sync()),
        ('cell_v2 create_cell', manage.CellV2Commands().create_cell('cell1'))):
    if status not in (*FINE, THERE_ALREADY):
        sys.exit(f'{what}: {status}')
