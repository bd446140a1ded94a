"""confluent-kafka's consume-transform-produce loop with transactions, orjson and sqlite3, in one thread.

Exactly-once, and safe to kill: a batch is in the log before its Kafka transaction commits, and the log ignores commands
that it has. What it gives up is in decide.py and in docs/performance.md.

By hand: python3 -m venv venv && venv/bin/pip install -r requirements.txt, then
venv/bin/python peer.py SERVERS GROUP COMMANDS NOTIFICATIONS REJECTIONS FILE; SIGTERM ends it.
"""

import sqlite3
import sys

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from decide import Decider

BATCH = 10_000
MAX_TRACE = 4096
SPEC_VERSION, SOURCE = ("ce_specversion", b"1.0"), ("ce_source", b"activity-stream")
TYPE, JSON = ("ce_type", b"activity-stream.notification"), ("content-type", b"application/json")
SCHEMA = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -16384",
    "PRAGMA wal_autocheckpoint = 16000",
    "CREATE TABLE IF NOT EXISTS events (position INTEGER PRIMARY KEY, partition INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp INTEGER NOT NULL, object_type TEXT NOT NULL, object_id TEXT NOT NULL, json TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS rejections (partition INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp INTEGER NOT NULL, problems TEXT NOT NULL, PRIMARY KEY (partition, offset)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS cursors (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL)",
)
APPEND_EVENT = "INSERT INTO events (partition, offset, timestamp, object_type, object_id, json) VALUES (?, ?, ?, ?, ?, ?)"
APPEND_REJECTION = "INSERT INTO rejections VALUES (?, ?, ?, ?)"
SET_CURSOR = "INSERT INTO cursors VALUES (?, ?) ON CONFLICT (partition) DO UPDATE SET next = excluded.next"


def trace(headers):
    """The last of each trace header, where it has a value."""
    last = {name: value for name, value in headers or () if name in ("traceparent", "tracestate")}
    return [(name, value) for name, value in last.items() if value and len(value) <= MAX_TRACE]


def main(servers, group, commands, notifications, rejections, file):
    db = sqlite3.connect(file, isolation_level=None)
    for statement in SCHEMA:
        db.execute(statement)
    next_offsets = dict(db.execute("SELECT partition, next FROM cursors"))
    consumer = Consumer({
        "bootstrap.servers": servers,
        "group.id": group,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 16384,
        "partition.assignment.strategy": "cooperative-sticky",
    })
    producer = Producer({
        "bootstrap.servers": servers,
        "transactional.id": f"{group}-python",
        "transaction.timeout.ms": 10_000,
        "partitioner": "murmur2_random",
        "linger.ms": 5,
        "batch.size": 1_000_000,
        "queue.buffering.max.messages": 500_000,
    })
    producer.init_transactions(30)
    consumer.subscribe([commands])
    decide = Decider(commands).decide
    while True:
        messages = consumer.consume(BATCH, 0.1)
        if not messages:
            continue
        producer.begin_transaction()
        events, rejected, ends = [], [], {}
        for message in messages:
            if message.error():
                raise SystemExit(str(message.error()))
            partition, offset, timestamp = message.partition(), message.offset(), message.timestamp()[1]
            ends[partition] = offset + 1
            is_new = offset >= next_offsets.get(partition, 0)
            problems, event = decide(message.value(), timestamp, partition, offset)
            if event:
                activity, time, object_type, object_id, json, notified = event
                if is_new:
                    events.append((partition, offset, timestamp, object_type, object_id, json.decode()))
                common = [("ce_time", time), ("ce_subject", f"{object_type}/{object_id}"), JSON, *trace(message.headers())]
                for own_id, key, value in notified:
                    producer.produce(notifications, value, key, headers=[SPEC_VERSION, ("ce_id", own_id), SOURCE, TYPE, *common])
            else:
                found = orjson.dumps([{"pointer": at, "code": code, "message": message} for at, code, message in problems])
                if is_new:
                    rejected.append((partition, offset, timestamp, found.decode()))
                headers = (message.headers() or []) + [
                    ("__connect.errors.topic", commands),
                    ("__connect.errors.partition", str(partition)),
                    ("__connect.errors.offset", str(offset)),
                    ("__connect.errors.stage", "decide"),
                    ("__connect.errors.exception.class.name", problems[0][1]),
                    ("__connect.errors.exception.message", found),
                ]
                producer.produce(rejections, message.value(), message.key(), headers=headers)
        next_offsets.update(ends)
        # Meanwhile librdkafka's threads send what was produced.
        db.execute("BEGIN")
        db.executemany(APPEND_EVENT, events)
        db.executemany(APPEND_REJECTION, rejected)
        db.executemany(SET_CURSOR, next_offsets.items())
        db.execute("COMMIT")
        # Committing flushes in steps of 100 ms if something is still on its way.
        while len(producer):
            producer.poll(0.001)
        offsets = [TopicPartition(commands, partition, end) for partition, end in ends.items()]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
        producer.commit_transaction()


main(*sys.argv[1:])
