#!/usr/bin/python3
"""Calls as OpenStack's services do: one JSON object a line on stdin, one answer a line on stdout, many at a time.

{"id", "method"[, "args", "kind": call|cast|fanout, "topic", "server", "exchange", "namespace", "version", "timeout", "monitor", "context",
"except": "module.Class", "repeat": N]}
-> {"id", "result"} or {"id", "error": "module.Class", "bases", "text", "caught", ["remote" | "kwargs"]}; with repeat also "ms", a list.
--exmod: modules whose exceptions are rebuilt, as a service allows them.
"""
import argparse
import importlib
import json
import os
import sys
import threading
import time

import oslo_messaging
from oslo_config import cfg

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


class Nothing(Exception):
    """Nobody raises it."""


def clientof(transport, ask):
    kind = ask.get('kind', 'call')
    target = oslo_messaging.Target(
        exchange=ask.get('exchange', 'shiftvol'), topic=ask.get('topic', 'shiftvol'), server=ask.get('server'),
        fanout=True if kind == 'fanout' else None, namespace=ask.get('namespace'), version=ask.get('version'))
    return oslo_messaging.get_rpc_client(
        transport, target, timeout=ask.get('timeout', 20), call_monitor_timeout=ask.get('monitor'))


def answer(transport, ask):
    client, wanted = clientof(transport, ask), Nothing
    if 'except' in ask:
        module, _, name = ask['except'].rpartition('.')
        wanted = getattr(importlib.import_module(module), name)
    send = client.call if ask.get('kind', 'call') == 'call' else client.cast
    try:
        times = []
        for _ in range(ask.get('repeat', 1)):
            start = time.perf_counter()
            result = send(ask.get('context', {}), ask['method'], **ask.get('args', {}))
            times.append((time.perf_counter() - start) * 1000)
        return {'result': result, 'ms': times} if 'repeat' in ask else {'result': result}
    except wanted as e:
        return dict(describe(e), caught=True)
    except Exception as e:
        return dict(describe(e), caught=False)


def describe(e):
    kind = type(e)
    told = {'error': '%s.%s' % (kind.__module__, kind.__name__), 'text': str(e),
            'bases': ['%s.%s' % (b.__module__, b.__name__) for b in kind.__mro__[1:]]}
    if isinstance(e, oslo_messaging.RemoteError):
        told['remote'] = {'type': e.exc_type, 'value': e.value, 'traceback': e.traceback}
    elif isinstance(getattr(e, 'kwargs', None), dict):
        told['kwargs'] = {k: v for k, v in e.kwargs.items() if isinstance(v, (str, int, type(None)))}
    return told


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--url', required=True)
    parser.add_argument('--exmod', action='append', default=[])
    args = parser.parse_args()
    # The client's own metrics want the global one.
    cfg.CONF([], project='peer', default_config_files=[], default_config_dirs=[])
    transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=args.url, allowed_remote_exmods=args.exmod)
    lock = threading.Lock()

    def work(ask):
        line = json.dumps(dict(answer(transport, ask), id=ask['id']))
        with lock:
            print(line, flush=True)

    print(json.dumps({'ready': True}), flush=True)
    threads = []
    for line in sys.stdin:
        threads.append(threading.Thread(target=work, args=(json.loads(line),)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    # Leaving in the usual way takes the reply poller 5 s and the metrics 10 s more.
    sys.stdout.flush()
    os._exit(0)


if __name__ == '__main__':
    main()
