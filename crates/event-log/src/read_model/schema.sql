-- A read model of an event log. It can be deleted at any time: it is made again from the log.
--
-- The log's events are covered by runs, one behind another from position 1 on. A run is written once, in
-- order, so nothing here is a random write; small runs are merged into large ones later.
--
-- `row_checksum` is over all other columns of its row, as the event log's are: see 0002.sql there.

CREATE TABLE runs (
    id             INTEGER PRIMARY KEY,
    first_position INTEGER NOT NULL,
    last_position  INTEGER NOT NULL,
    earliest       INTEGER NOT NULL,  -- record timestamps of its events
    latest         INTEGER NOT NULL,
    -- the event at last_position, by which the log is known again
    partition      INTEGER NOT NULL,
    offset         INTEGER NOT NULL,
    timestamp      INTEGER NOT NULL,
    checksum       INTEGER NOT NULL,
    row_checksum   INTEGER NOT NULL
) STRICT;

-- The events of a run by object: entries in order of (hash, position), some hundreds a row.
CREATE TABLE blocks (
    run          INTEGER NOT NULL,
    first_hash   INTEGER NOT NULL,
    block        INTEGER NOT NULL,  -- 0, 1, ...
    next_hash    INTEGER,           -- first_hash of the next block, by which one that is missing shows; null in the last
    -- entries of 12 bytes, big-endian: 63 bits of the hash of `type/id`, then 32 bits of
    -- the position less the run's first_position
    entries      BLOB    NOT NULL,
    row_checksum INTEGER NOT NULL,
    PRIMARY KEY (run, first_hash, block)
) STRICT, WITHOUT ROWID;
