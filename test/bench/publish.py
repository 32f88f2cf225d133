#!/usr/bin/python3
"""A Nova that is up already: publishes one notification for each JSON line of stdin, with oslo_messaging.Notifier.

Prints {"before": t, "after": t} for each: milliseconds since 1970 right before the call and right after it, when the broker has it.
"""
import argparse
import json
import sys
import time

import oslo_messaging
from oslo_config import cfg


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--url', required=True)
    args = parser.parse_args()
    conf = cfg.ConfigOpts()
    conf([], project='peer', default_config_files=[], default_config_dirs=[])
    oslo_messaging.set_transport_defaults('nova')
    transport = oslo_messaging.get_notification_transport(conf, url=args.url)
    notifier = oslo_messaging.Notifier(transport, driver='messagingv2', topics=['versioned_notifications'])
    for line in sys.stdin:
        note = json.loads(line)
        prepared = notifier.prepare(publisher_id=note['publisher_id'])
        before = time.time()
        prepared.info({}, note['event_type'], note['payload'])
        print(json.dumps({'before': before * 1000, 'after': time.time() * 1000}), flush=True)


if __name__ == '__main__':
    main()
