#!/usr/bin/python3
"""Reads notifications with an oslo_messaging listener, as Ceilometer does, and prints each as a JSON line.

Its queue is its own (pool), bound to each [EXCHANGE/]TOPIC, so nothing is taken from other readers. Prints {"ready": true} first, and
stops after --count messages or --seconds.
"""
import argparse
import json
import logging
import sys
import threading

import oslo_messaging
from oslo_config import cfg


class Endpoint:
    def __init__(self, limit):
        self.limit, self.seen, self.done, self.lock = limit, 0, threading.Event(), threading.Lock()

    def _take(self, priority, context, publisher_id, event_type, payload, metadata):
        with self.lock:
            print(json.dumps({'priority': priority, 'event_type': event_type, 'publisher_id': publisher_id,
                              'payload': payload, 'metadata': metadata, 'context': context}), flush=True)
            self.seen += 1
            if self.limit and self.seen >= self.limit:
                self.done.set()
        return oslo_messaging.NotificationResult.HANDLED

    def info(self, *args):
        return self._take('info', *args)

    def error(self, *args):
        return self._take('error', *args)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--url', required=True)
    parser.add_argument('--topic', action='append', required=True, metavar='EXCHANGE/TOPIC')
    parser.add_argument('--pool', default='shiftvol-test-reader')
    parser.add_argument('--count', type=int, default=0)
    parser.add_argument('--seconds', type=float, default=60)
    args = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL, stream=sys.stderr)
    conf = cfg.ConfigOpts()
    conf([], project='peer', default_config_files=[], default_config_dirs=[])
    transport = oslo_messaging.get_notification_transport(conf, url=args.url)
    targets = [oslo_messaging.Target(exchange=e or None, topic=t) for e, _, t in (x.rpartition('/') for x in args.topic)]
    endpoint = Endpoint(args.count)
    listener = oslo_messaging.get_notification_listener(transport, targets, [endpoint], executor='threading', pool=args.pool)
    conf.set_override('executor_thread_pool_size', 1)  # several threads would print them out of order
    listener.start()
    print(json.dumps({'ready': True}), flush=True)
    enough = endpoint.done.wait(args.seconds)
    listener.stop()
    listener.wait()
    raise SystemExit(0 if enough or not args.count else 2)


if __name__ == '__main__':
    main()
