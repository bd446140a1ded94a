-- The event log, version 3: several claims of idempotency keys share a row. With a row for each, a key cost two thirds of what
-- its event cost.
--
-- The upgrade moves the rows of table `claims` here and drops that table, in the same transaction.

-- The idempotency window: a claim for each event or duplicate whose command had a key, in order of offset, hence of
-- last_seen. Only the latest claim of a key counts. A row is deleted when its last claim is older than the window.
CREATE TABLE claim_groups (
    id           INTEGER PRIMARY KEY,  -- partition * 2^48 + offset of the last claim
    claims       BLOB    NOT NULL,     -- 64 bytes for each, see below
    row_checksum INTEGER NOT NULL      -- see version 2
) STRICT;
-- A claim is, with integers as 8 bytes, little-endian:
--   offset           of the command
--   first_offset     of the event that the first command with the key became
--   first_timestamp  of the same event
--   last_seen        the partition's clock at this claim's command
--   key_hash         16 bytes
--   fingerprint      16 bytes
--
-- Not WITHOUT ROWID like the others: there, SQLite would keep whole rows in the inner pages too.
--
-- From now on, `cursors.claims` is the number of the partition's rows in this table.
