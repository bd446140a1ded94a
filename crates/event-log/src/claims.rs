//! The idempotency window on disk: table `claims`.
//!
//! Rows are appended in order of offset and deleted at the old end, so the size of the window does not affect the cost
//! of an append.

use contract::{Coordinates, IdempotencyKey};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::checksum::{self, CLAIMS, CURSORS, DamagedRow, check_row};
use crate::lookup::MISSING;
use crate::window::{Window, prefix};

/// The latest row with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClaimRow {
    offset: i64,
    pub(crate) fingerprint: [u8; 16],
    /// Offset and timestamp of the event that the first command with the key became.
    pub(crate) first: (i64, i64),
    pub(crate) last_seen: i64,
}

/// One partition's claims: its rows, and the window that finds them. A cache of the table: drop it when a transaction
/// fails, and it is loaded again.
#[derive(Debug)]
pub(crate) struct Claims {
    partition: i32,
    window: Window,
    /// Rows below this offset have expired. Some of them may not be deleted yet.
    trim_below: Option<i64>,
    /// How many rows were written since the last [`trim`](Self::trim).
    written: u64,
    /// How many rows the table has.
    pub(crate) rows: i64,
}

impl Claims {
    /// Loads the partition's claims, which must have `counted` rows.
    pub(crate) fn load(
        connection: &Connection,
        (partition, counted): (i32, i64),
        clock: i64,
        window_ms: i64,
    ) -> rusqlite::Result<Self> {
        let window = Window::new(window_ms);
        let mut claims = Self { partition, window, trim_below: None, written: 0, rows: 0 };
        let mut all =
            connection.prepare_cached(&format!("{} WHERE partition = ?1 ORDER BY offset", CLAIMS.select))?;
        let mut statements = ClaimStatements::prepare(connection)?;
        let mut rows = all.query([partition])?;
        while let Some(row) = rows.next()? {
            check_row(row, &CLAIMS)?;
            claims.rows += 1;
            let (offset, hash, last_seen): (i64, [u8; 16], i64) = (row.get(1)?, row.get(2)?, row.get(6)?);
            if clock.saturating_sub(last_seen) >= window_ms {
                claims.trim_below = Some(offset + 1);
                continue;
            }
            let prefix = prefix(&hash);
            let mut replaces = None;
            for candidate in claims.window.latest_candidates(prefix) {
                if statements.row_at(partition, candidate)?.is_some_and(|(found, _)| found == hash) {
                    replaces = Some(candidate);
                    break;
                }
            }
            claims.window.insert(prefix, offset, last_seen, replaces);
        }
        if claims.rows != counted {
            let found = format!("it counts {counted} rows of table claims, which has {}", claims.rows);
            return Err(DamagedRow::of_key(&CURSORS, format!("partition {partition}"), found).into());
        }
        Ok(claims)
    }

    /// The latest row with the key. It may be older than the window.
    pub(crate) fn find(
        &self,
        statements: &mut ClaimStatements<'_>,
        hash: &[u8; 16],
    ) -> rusqlite::Result<Option<ClaimRow>> {
        for offset in self.window.candidates(prefix(hash)) {
            let Some((found, claim)) = statements.row_at(self.partition, offset)? else {
                let key = format!("partition {} offset {offset}", self.partition);
                return Err(DamagedRow::of_key(&CLAIMS, key, MISSING).into());
            };
            if found == *hash {
                return Ok(Some(claim));
            }
        }
        Ok(None)
    }

    /// Inserts a row for the command at `at`. `first` identifies the event that the key stands for; `latest` is the
    /// result of [`find`](Self::find).
    pub(crate) fn insert(
        &mut self,
        statements: &mut ClaimStatements<'_>,
        at: Coordinates,
        key: &IdempotencyKey,
        first: (i64, i64),
        clock: i64,
        latest: Option<&ClaimRow>,
    ) -> rusqlite::Result<()> {
        let values = [
            ValueRef::Integer(self.partition.into()),
            ValueRef::Integer(at.offset),
            ValueRef::Blob(&key.hash),
            ValueRef::Blob(&key.fingerprint),
            ValueRef::Integer(first.0),
            ValueRef::Integer(first.1),
            ValueRef::Integer(clock),
        ];
        checksum::insert(&mut statements.insert, &CLAIMS, &values)?;
        self.rows += 1;
        self.window.insert(prefix(&key.hash), at.offset, clock, latest.map(|latest| latest.offset));
        self.written += 1;
        Ok(())
    }

    /// Drops expired claims from memory. `next_offset` is above the offset of every row.
    pub(crate) fn expire(&mut self, clock: i64, next_offset: i64) {
        if let Some(below) = self.window.expire(clock, next_offset) {
            self.trim_below = Some(below);
        }
    }

    /// Deletes some of the expired rows, more than were written since the last call. Deleting a whole bucket, an eighth
    /// of the window, at once could block the log for minutes.
    pub(crate) fn trim(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(below) = self.trim_below else { return Ok(()) };
        let limit = 4 * std::mem::take(&mut self.written) + 1000;
        let mut delete = connection.prepare_cached(
            "DELETE FROM claims WHERE partition = ?1 AND offset < min(?2, coalesce( \
             (SELECT offset FROM claims WHERE partition = ?1 ORDER BY offset LIMIT 1 OFFSET ?3), ?2))",
        )?;
        let deleted = delete.execute(params![self.partition, below, limit.cast_signed()])?;
        self.rows -= deleted as i64;
        if (deleted as u64) < limit {
            self.trim_below = None;
        }
        Ok(())
    }
}

pub(crate) struct ClaimStatements<'a> {
    select: CachedStatement<'a>,
    insert: CachedStatement<'a>,
}

impl<'a> ClaimStatements<'a> {
    pub(crate) fn prepare(connection: &'a Connection) -> rusqlite::Result<Self> {
        let select = format!("{} WHERE partition = ?1 AND offset = ?2", CLAIMS.select);
        Ok(Self {
            select: connection.prepare_cached(&select)?,
            insert: connection.prepare_cached(CLAIMS.insert)?,
        })
    }

    /// The row at that offset, with the hash of its key.
    fn row_at(&mut self, partition: i32, offset: i64) -> rusqlite::Result<Option<([u8; 16], ClaimRow)>> {
        let row = self.select.query_row(params![partition, offset], |row| {
            check_row(row, &CLAIMS)?;
            let (fingerprint, first) = (row.get(3)?, (row.get(4)?, row.get(5)?));
            Ok((row.get(2)?, ClaimRow { offset, fingerprint, first, last_seen: row.get(6)? }))
        });
        row.optional()
    }
}
