-- The event log, version 1.
--
-- Every decided command has exactly one row in exactly one of the tables events, duplicates and rejections.
-- Partitions and offsets are those of the commands topic; times are milliseconds since 1970-01-01T00:00:00Z.
-- An activity's id is computed from topic, partition, offset and timestamp, so it is not stored; the view
-- `activities` shows it.
--
-- There is no secondary index, on purpose: one over random keys (such as objects) costs more than all the
-- rest, and its cost grows with the table. The read model, which has such an index, is a separate file that can be
-- deleted.

-- One row for each fact about the log as a whole.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value ANY  NOT NULL
) STRICT, WITHOUT ROWID;
-- name = 'topic':      the commands topic. Ids depend on it, so a log belongs to one topic for ever.
-- name = 'topic_bits': the 12 bits of its CRC-32C that every id contains.

-- Accepted commands in the order of their append. Positions start at 1 and have no holes.
CREATE TABLE events (
    position    INTEGER PRIMARY KEY,
    partition   INTEGER NOT NULL,
    offset      INTEGER NOT NULL,
    timestamp   INTEGER NOT NULL,  -- of the record
    checksum    INTEGER NOT NULL,  -- CRC-32C of the record
    object_type TEXT    NOT NULL,  -- these two are in `json` too; a scan need not parse it
    object_id   TEXT    NOT NULL,
    json        TEXT    NOT NULL   -- the entry in normal form; last, so that a scan can skip it
) STRICT;

-- Commands that repeat an earlier one, with the event that the first of them became, in the same partition.
CREATE TABLE duplicates (
    partition    INTEGER NOT NULL,
    offset       INTEGER NOT NULL,
    timestamp    INTEGER NOT NULL,
    checksum     INTEGER NOT NULL,
    of_offset    INTEGER NOT NULL,
    of_timestamp INTEGER NOT NULL,
    PRIMARY KEY (partition, offset)
) STRICT, WITHOUT ROWID;

-- Commands that were rejected, and why.
CREATE TABLE rejections (
    partition INTEGER NOT NULL,
    offset    INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,   -- as Kafka returned it; it may be the problem
    checksum  INTEGER NOT NULL,
    problems  TEXT    NOT NULL,   -- JSON array of {pointer, code, message}
    PRIMARY KEY (partition, offset)
) STRICT, WITHOUT ROWID;

-- The cursor of each partition. An append moves it in its transaction.
CREATE TABLE cursors (
    partition      INTEGER NOT NULL PRIMARY KEY,
    logged         INTEGER NOT NULL,  -- the next offset to append
    clock          INTEGER NOT NULL,  -- highest valid record timestamp; 0 before the first
    published_seen INTEGER,           -- a lower bound of the group's committed offset
    clean          INTEGER NOT NULL,  -- 1 after a clean stop: published_seen is exact
    -- the last record below `logged`, to recognise the topic; all null before the first
    anchor_offset    INTEGER,
    anchor_timestamp INTEGER,
    anchor_checksum  INTEGER,
    -- counters, since counting the rows would read them all
    events     INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    rejections INTEGER NOT NULL,
    -- lowest and highest timestamp of an event; null before the first
    earliest   INTEGER,
    latest     INTEGER
) STRICT;

-- One row for each append and partition with events: their offsets are in [first_offset, next_offset), and
-- their positions are first_position, first_position + 1, ... in order of offset. A binary search between
-- two positions finds an event by its offset.
CREATE TABLE batches (
    partition      INTEGER NOT NULL,
    first_offset   INTEGER NOT NULL,  -- of the first event
    next_offset    INTEGER NOT NULL,  -- one past the last event's
    first_position INTEGER NOT NULL,
    events         INTEGER NOT NULL,
    PRIMARY KEY (partition, first_offset)
) STRICT, WITHOUT ROWID;

-- The idempotency window: a row for each event or duplicate whose command had a key, in order of offset,
-- hence of last_seen. Only the latest row with a key counts. Rows older than the window are deleted.
CREATE TABLE claims (
    partition       INTEGER NOT NULL,
    offset          INTEGER NOT NULL,
    key_hash        BLOB    NOT NULL,  -- 16 bytes
    fingerprint     BLOB    NOT NULL,  -- 16 bytes
    first_offset    INTEGER NOT NULL,  -- of the event that the first command with the key became
    first_timestamp INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL,  -- the partition's clock at this row's command
    PRIMARY KEY (partition, offset)
) STRICT, WITHOUT ROWID;

-- Offsets [first_offset, next_offset) whose commands this log never received.
CREATE TABLE gaps (
    partition    INTEGER NOT NULL,
    first_offset INTEGER NOT NULL,
    next_offset  INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    PRIMARY KEY (partition, first_offset)
) STRICT, WITHOUT ROWID;

-- When a person overruled a refusal to start, and with which flag.
CREATE TABLE interventions (
    id        INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    flag      TEXT    NOT NULL,
    details   TEXT    NOT NULL
) STRICT;

-- For the sqlite3 shell. `id` is the UUID of the contract: 48 bits timestamp, version 8,
-- 12 bits topic, variant, 14 bits partition, 48 bits offset.
CREATE VIEW activities AS
SELECT
    position,
    printf('%08x-%04x-8%03x-%04x-%012x',
        timestamp >> 16, timestamp & 0xffff,
        (SELECT value FROM meta WHERE name = 'topic_bits'),
        0x8000 | partition, offset) AS id,
    strftime('%Y-%m-%dT%H:%M:%fZ', timestamp / 1000.0, 'unixepoch') AS time,
    json ->> '@type' AS verb,
    object_type, object_id, partition, offset, json
FROM events;

CREATE VIEW refusals AS
SELECT
    partition, offset,
    strftime('%Y-%m-%dT%H:%M:%fZ', timestamp / 1000.0, 'unixepoch') AS time,
    json_extract(problem.value, '$.pointer') AS pointer,
    json_extract(problem.value, '$.code') AS code,
    json_extract(problem.value, '$.message') AS message
FROM rejections, json_each(rejections.problems) AS problem;
