-- The read model of an event log. You can delete it at any time; it is rebuilt from the log.
--
-- Consecutive runs, from position 1 on, cover the log's events. A run is written once, in order, so there are no
-- random writes. Small runs are merged into large ones later.
--
-- `row_checksum` covers all other columns of the row, as in the event log: see 0002.sql there.

CREATE TABLE runs (
    id             INTEGER PRIMARY KEY,
    first_position INTEGER NOT NULL,
    last_position  INTEGER NOT NULL,
    earliest       INTEGER NOT NULL,  -- record timestamps of its events
    latest         INTEGER NOT NULL,
    -- the event at last_position, to recognise the log
    partition      INTEGER NOT NULL,
    offset         INTEGER NOT NULL,
    timestamp      INTEGER NOT NULL,
    checksum       INTEGER NOT NULL,
    row_checksum   INTEGER NOT NULL
) STRICT;

-- The events of a run by object: entries in order of (hash, position), some hundreds in a row.
CREATE TABLE blocks (
    run          INTEGER NOT NULL,
    first_hash   INTEGER NOT NULL,
    block        INTEGER NOT NULL,  -- 0, 1, ...
    next_hash    INTEGER,           -- first_hash of the next block, to detect a missing one; null in the last
    -- entries of 12 bytes, big-endian: 63 bits of the hash of `type/id`, then the position minus the run's
    -- first_position, as 32 bits
    entries      BLOB    NOT NULL,
    row_checksum INTEGER NOT NULL,
    PRIMARY KEY (run, first_hash, block)
) STRICT, WITHOUT ROWID;
