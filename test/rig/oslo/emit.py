#!/usr/bin/python3
"""Sends notifications through oslo_messaging.Notifier, as Nova and Cinder do.

Reads JSON lines from stdin: {"event_type", "publisher_id", "priority", "payload"[, "exchange", "topic", "context"]}; several exchanges
may be mixed. Options of [oslo_messaging_rabbit] go into the URL's query: ?amqp_durable_queues=true
Prints {"sent": N, "failed": N}. The Notifier never raises, it logs: hence the handler.
"""
import argparse
import json
import logging
import sys
import time

import oslo_messaging
from oslo_config import cfg


class Failures(logging.Handler):
    def __init__(self):
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record):
        self.count += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--url', required=True)
    parser.add_argument('--rate', type=float, default=0, help='messages a second; 0: as fast as it goes')
    parser.add_argument('--retry', type=int, default=-1, help='-1: until it is sent')
    args = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL, stream=sys.stderr)
    failures = Failures()
    for name in ('oslo_messaging.notify.messaging', 'oslo_messaging.notify.notifier'):
        logging.getLogger(name).addHandler(failures)
        logging.getLogger(name).setLevel(logging.ERROR)

    notifiers, sent, start = {}, 0, time.monotonic()
    for line in sys.stdin:
        note = json.loads(line)
        exchange = note.get('exchange', 'nova')
        versioned = isinstance(note['payload'], dict) and 'nova_object.name' in note['payload']
        topic = note.get('topic', 'versioned_notifications' if versioned else 'notifications')
        if (exchange, topic) not in notifiers:
            # The control exchange is a property of the configuration, so each exchange has one of its own.
            conf = cfg.ConfigOpts()
            conf([], project='peer', default_config_files=[], default_config_dirs=[])
            oslo_messaging.set_transport_defaults(exchange)
            transport = oslo_messaging.get_notification_transport(conf, url=args.url)
            conf.set_override('control_exchange', exchange)
            notifiers[exchange, topic] = oslo_messaging.Notifier(
                transport, driver='messagingv2', topics=[topic], retry=args.retry)
        notifier = notifiers[exchange, topic].prepare(publisher_id=note['publisher_id'])
        getattr(notifier, note.get('priority', 'INFO').lower())(note.get('context', {}), note['event_type'], note['payload'])
        sent += 1
        if args.rate:
            time.sleep(max(0, start + sent / args.rate - time.monotonic()))
    print(json.dumps({'sent': sent - failures.count, 'failed': failures.count}), flush=True)


if __name__ == '__main__':
    main()
