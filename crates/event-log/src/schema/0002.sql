-- The event log, version 2: each row carries a checksum over all its other columns.
--
-- SQLite has no checksums: a bit that flips on the disk changes what a row says, and nothing shows it. Whoever writes a
-- row writes `row_checksum`, and whoever reads the row computes it again and compares.
--
-- `row_checksum` is the CRC-32C of these bytes, in this order, integers as 8 bytes, little-endian:
--   the table's name, in ASCII
--   for each other column, in the order of the table's definition:
--     NULL:          00
--     INTEGER:       01, the value
--     TEXT, BLOB:    02 or 03, the number of bytes, the bytes (text in UTF-8)
-- The lengths are in it so that bytes which move from one column into the next change it.
--
-- It is not `checksum`, which is the record's, as Kafka held it.
--
-- The default is what the rows of version 1 have until the upgrade has computed theirs, in the same transaction.

ALTER TABLE meta          ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE events        ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE duplicates    ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rejections    ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
-- Rows of table `claims`: one that is missing would let a key in twice, and no other row would show it.
ALTER TABLE cursors       ADD COLUMN claims       INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cursors       ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches       ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE claims        ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gaps          ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE interventions ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;

UPDATE cursors SET claims = (SELECT count(*) FROM claims AS c WHERE c.partition = cursors.partition);
