-- The event log, version 2: each row has a checksum over all its other columns.
--
-- SQLite has no checksums, so it does not notice a bit that flips on the disk. The program writes `row_checksum` with each
-- row, and compares it whenever it reads the row.
--
-- `row_checksum` is the CRC-32C of these bytes, in this order, integers as 8 bytes, little-endian:
--   the table's name, in ASCII
--   for each other column, in the order of the table's definition:
--     NULL:          00
--     INTEGER:       01, the value
--     TEXT, BLOB:    02 or 03, the number of bytes, the bytes (text in UTF-8)
-- It covers the lengths, so that it changes if bytes move from one column into the next.
--
-- The column `checksum` is another: that of the record in Kafka.
--
-- Rows of version 1 have the default until the upgrade computes their checksums, in the same transaction.

ALTER TABLE meta          ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE events        ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE duplicates    ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rejections    ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
-- The number of rows in table `claims`: a missing row would accept a key twice, and no other row would reveal it.
ALTER TABLE cursors       ADD COLUMN claims       INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cursors       ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches       ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE claims        ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gaps          ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE interventions ADD COLUMN row_checksum INTEGER NOT NULL DEFAULT 0;

UPDATE cursors SET claims = (SELECT count(*) FROM claims AS c WHERE c.partition = cursors.partition);
