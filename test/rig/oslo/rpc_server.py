#!/usr/bin/python3
"""An RPC server in Python, to compare ours with: ping in namespace baseapi, as Nova's services have it. Prints {"ready": true}."""
import argparse
import json
import sys

import oslo_messaging
from oslo_config import cfg


class BaseApi:
    target = oslo_messaging.Target(namespace='baseapi', version='1.1')

    def ping(self, context, arg):
        return {'service': 'peer', 'arg': arg}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--url', required=True)
    parser.add_argument('--topic', default='peer')
    parser.add_argument('--server', default='peer')
    args = parser.parse_args()
    cfg.CONF([], project='peer', default_config_files=[], default_config_dirs=[])
    transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=args.url)
    target = oslo_messaging.Target(exchange='shiftvol', topic=args.topic, server=args.server)
    server = oslo_messaging.get_rpc_server(transport, target, [BaseApi()], executor='threading')
    server.start()
    print(json.dumps({'ready': True}), flush=True)
    sys.stdin.read()
    server.stop()
    server.wait()


if __name__ == '__main__':
    main()
