"""Runs one service: service.py NAME MODULE ARGUMENT...; the daemons' own packages, which have the scripts for it, are not installed."""
import importlib
import sys

name, module, *arguments = sys.argv[1:]
main = importlib.import_module(module).main  # first: it makes the process eventlet's
sys.argv = [name, *arguments]

if name.startswith('cinder'):
    # Debian 12 has a Cinder (21.3) that expects `read_deleted` in a context which its oslo.messaging (14.0) strips before notifying:
    # every request that notifies would end with 500. Later ones have this default themselves.
    from cinder import context

    made = context.RequestContext.from_dict.__func__
    context.RequestContext.from_dict = classmethod(
        lambda cls, values: made(cls, {**values, 'read_deleted': values.get('read_deleted') or 'no'}))

sys.exit(main())
