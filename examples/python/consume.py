"""Prints a line for each notification, until it is stopped or has printed COUNT of them.

    pip install -r requirements.txt
    python consume.py [BOOTSTRAP_SERVERS [TOPIC [GROUP [COUNT]]]]
"""

import json
import sys

from confluent_kafka import Consumer, KafkaException

arguments = dict(enumerate(sys.argv))
servers = arguments.get(1, "localhost:9092")
topic = arguments.get(2, "activity.notifications")
group = arguments.get(3, "activity-printer-python")
wanted = int(arguments.get(4, sys.maxsize))

consumer = Consumer({
    "bootstrap.servers": servers,
    "group.id": group,
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
})
consumer.subscribe([topic])
# Ids that were printed already. If repeating an effect does harm, store the ids together with the effect.
printed_ids = {}  # a dict finds an id at once, and keeps the order in which they came
printed = 0
try:
    while printed < wanted:
        messages = consumer.consume(min(500, wanted - printed), timeout=0.5)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            notification = json.loads(message.value())
            if notification["id"] not in printed_ids:
                activity = notification["activity"]
                subject = f"{activity['objectType']}/{activity['objectId']}"
                print(notification["id"], message.key().decode(), subject, flush=True)
                printed_ids[notification["id"]] = None
                if len(printed_ids) > 100_000:
                    del printed_ids[next(iter(printed_ids))]
                printed += 1
        # After the work, once for all of it: a crash then repeats work rather than losing it.
        if messages:
            consumer.commit(asynchronous=False)
except KeyboardInterrupt:
    pass
finally:
    consumer.close()
