-- The event log, version 1.
--
-- Every command that was decided has exactly one row in exactly one of events, duplicates, rejections.
-- Offsets and partitions are the commands topic's; times are milliseconds since 1970-01-01T00:00:00Z.
-- An activity's id follows from topic, partition, offset and timestamp, so it is not stored: the view
-- `activities` shows it.
--
-- There is no secondary index, on purpose. One over random keys (objects, say) costs more than all the
-- rest and grows without end; what needs one is built beside the log and can be thrown away.

-- One row for each fact about the log as a whole.
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value ANY  NOT NULL
) STRICT, WITHOUT ROWID;
-- name = 'topic':      the commands topic; ids depend on it, so a log belongs to one topic for ever.
-- name = 'topic_bits': the 12 bits of its CRC-32C that every id holds.

-- Accepted commands, in the order in which they were appended. Positions start at 1 and have no holes.
CREATE TABLE events (
    position    INTEGER PRIMARY KEY,
    partition   INTEGER NOT NULL,
    offset      INTEGER NOT NULL,
    timestamp   INTEGER NOT NULL,  -- of the record
    checksum    INTEGER NOT NULL,  -- CRC-32C of the record
    object_type TEXT    NOT NULL,  -- these two stand in `json` as well: a scan for them does not parse it
    object_id   TEXT    NOT NULL,
    json        TEXT    NOT NULL   -- the entry in normal form; last, so that a scan can leave it unread
) STRICT;

-- Commands that came before: the event that the first one became. It is of the same partition.
CREATE TABLE duplicates (
    partition    INTEGER NOT NULL,
    offset       INTEGER NOT NULL,
    timestamp    INTEGER NOT NULL,
    checksum     INTEGER NOT NULL,
    of_offset    INTEGER NOT NULL,
    of_timestamp INTEGER NOT NULL,
    PRIMARY KEY (partition, offset)
) STRICT, WITHOUT ROWID;

-- Commands that were refused, and why.
CREATE TABLE rejections (
    partition INTEGER NOT NULL,
    offset    INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,   -- as Kafka gave it, which may be what is wrong
    checksum  INTEGER NOT NULL,
    problems  TEXT    NOT NULL,   -- JSON array of {pointer, code, message}
    PRIMARY KEY (partition, offset)
) STRICT, WITHOUT ROWID;

-- How far each partition is. Moved in the transaction that appends.
CREATE TABLE cursors (
    partition      INTEGER NOT NULL PRIMARY KEY,
    logged         INTEGER NOT NULL,  -- the next offset that the log lacks
    clock          INTEGER NOT NULL,  -- highest valid record timestamp seen; 0 before the first
    published_seen INTEGER,           -- a lower bound of the group's committed offset
    clean          INTEGER NOT NULL,  -- 1 after a clean stop: published_seen is exact
    -- the last record below `logged`, by which the topic is known again; all null before the first
    anchor_offset    INTEGER,
    anchor_timestamp INTEGER,
    anchor_checksum  INTEGER,
    -- counted here, because counting rows reads them all
    events     INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    rejections INTEGER NOT NULL,
    -- lowest and highest timestamp of an event; null before the first
    earliest   INTEGER,
    latest     INTEGER
) STRICT;

-- One row for each append and partition that brought events: [first_offset, next_offset) spans their
-- offsets, and their positions are first_position, first_position + 1, ... in order of offset. An event
-- is found from its offset by binary search between two positions.
CREATE TABLE batches (
    partition      INTEGER NOT NULL,
    first_offset   INTEGER NOT NULL,  -- of the first event
    next_offset    INTEGER NOT NULL,  -- one past the last event's
    first_position INTEGER NOT NULL,
    events         INTEGER NOT NULL,
    PRIMARY KEY (partition, first_offset)
) STRICT, WITHOUT ROWID;

-- The idempotency window: a row for each event or duplicate whose command carried a key, in order of
-- offset, hence of last_seen. The latest row with a key is the one that counts. Rows leave at the old
-- end when they are older than the window.
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

-- Offsets [first_offset, next_offset) that this log never saw, and never will.
CREATE TABLE gaps (
    partition    INTEGER NOT NULL,
    first_offset INTEGER NOT NULL,
    next_offset  INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    PRIMARY KEY (partition, first_offset)
) STRICT, WITHOUT ROWID;

-- Where a person overruled a stop of the program, and with which flag.
CREATE TABLE interventions (
    id        INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    flag      TEXT    NOT NULL,
    details   TEXT    NOT NULL
) STRICT;

-- For people with the sqlite3 shell. `id` is the UUID of the contract: 48 bits timestamp, version 8,
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
