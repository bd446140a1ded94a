"""Posts a command and prints its id, from the delivery report. The processor decides whether it becomes an activity: run
twice, the second command is a duplicate.

    pip install -r requirements.txt
    python post.py [BOOTSTRAP_SERVERS [TOPIC [OBJECT_ID]]]
"""

import json
import sys
import uuid

from confluent_kafka import Producer

arguments = dict(enumerate(sys.argv))
servers = arguments.get(1, "localhost:9092")
topic = arguments.get(2, "activity.commands")
object_id = arguments.get(3, "w-9")


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def activity_id(message) -> uuid.UUID:
    _, timestamp = message.timestamp()
    place = message.partition() << 48 | message.offset()
    topic_bits = crc32c(message.topic().encode()) & 0xFFF
    return uuid.UUID(int=timestamp << 80 | 0x8 << 76 | topic_bits << 64 | 0b10 << 62 | place)


def delivered(error, message):
    if error is not None:
        sys.exit(f"not delivered: {error}")
    print(activity_id(message))
    print(f"sent, not yet accepted: 'activity-stream log show {activity_id(message)}' says what it became", file=sys.stderr)


command = {
    "@type": "complete",
    "objectType": "workitem",
    "objectId": object_id,
    "targets": [{"targetId": "anna", "notify": True}],
    "content": "Approved.",
}
producer = Producer({
    "bootstrap.servers": servers,
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # as the Java client places keys
})
producer.produce(
    topic,
    key=f"workitem/{object_id}",
    value=json.dumps(command),
    headers={"idempotency-key": f"complete-workitem-{object_id}"},
    on_delivery=delivered,
)
if producer.flush(60) > 0:
    sys.exit("not delivered within 60 s")
