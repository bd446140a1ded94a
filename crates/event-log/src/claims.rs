//! The idempotency window on disk: what each key was claimed for, and when it was last seen.
//!
//! Rows are written in order of offset and leave at the old end, so the table costs no more in a large
//! window than in a small one.

use std::path::Path;

use contract::{Coordinates, IdempotencyKey};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::LogError;
use super::checksum::{self, CLAIMS, checked};
use super::window::{Window, prefix};

/// A key's latest row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    offset: i64,
    pub(super) fingerprint: [u8; 16],
    /// Where the event is that the first command with the key became.
    pub(super) first_offset: i64,
    pub(super) first_timestamp: i64,
    pub(super) last_seen: i64,
}

/// One partition's claims: the table's rows and the way to them. Whoever drops it loses nothing, it is read
/// again from the log; so it is dropped where a transaction fails.
#[derive(Debug)]
pub(super) struct Claims {
    partition: i32,
    window: Window,
    /// Rows below this offset are no longer wanted, and may still be there.
    trim_below: Option<i64>,
    /// Rows written since the last [`trim`](Self::trim).
    written: u64,
    /// Rows that the table has.
    pub(super) rows: i64,
}

impl Claims {
    /// Reads what of the partition's claims is still in the window, one point query a key less than once: keys
    /// that came twice within an eighth of the window. `counted` is how many rows there must be.
    pub(super) fn load(
        connection: &Connection,
        path: &Path,
        (partition, counted): (i32, i64),
        clock: i64,
        window_ms: i64,
    ) -> Result<Self, LogError> {
        let claims = Self::read(connection, partition, clock, window_ms);
        let claims = claims.map_err(|error| LogError::sqlite(path, None, error))?;
        if claims.rows != counted {
            let found = claims.rows;
            let found =
                format!("partition {partition} has {found} rows in table claims, counted are {counted}");
            return Err(LogError::damaged(path, found));
        }
        Ok(claims)
    }

    fn read(connection: &Connection, partition: i32, clock: i64, window_ms: i64) -> rusqlite::Result<Self> {
        let window = Window::new(window_ms);
        let mut claims = Self { partition, window, trim_below: None, written: 0, rows: 0 };
        let mut all =
            connection.prepare_cached(&format!("{} WHERE partition = ?1 ORDER BY offset", CLAIMS.select))?;
        let mut statements = ClaimStatements::prepare(connection)?;
        let mut rows = all.query([partition])?;
        let mut dead = None;
        while let Some(row) = rows.next()? {
            checked(row, &CLAIMS)?;
            claims.rows += 1;
            let (offset, hash, last_seen): (i64, [u8; 16], i64) = (row.get(1)?, row.get(2)?, row.get(6)?);
            if clock.saturating_sub(last_seen) >= window_ms {
                dead = Some(offset + 1);
                continue;
            }
            let prefix = prefix(&hash);
            let mut replaces = None;
            for candidate in claims.window.in_open_bucket(prefix) {
                if statements.hash_at(partition, candidate)? == Some(hash) {
                    replaces = Some(candidate);
                    break;
                }
            }
            claims.window.note(prefix, offset, last_seen, replaces);
        }
        claims.trim_below = dead;
        Ok(claims)
    }

    /// The key's latest row, which may be older than the window.
    pub(super) fn find(
        &self,
        statements: &mut ClaimStatements<'_>,
        path: &Path,
        hash: &[u8; 16],
    ) -> Result<Option<Found>, LogError> {
        for offset in self.window.candidates(prefix(hash)) {
            let row =
                statements.row_at(self.partition, offset).map_err(|e| LogError::sqlite(path, None, e))?;
            let Some((of, found)) = row else {
                let found = format!("no claim at partition {} offset {offset}", self.partition);
                return Err(LogError::damaged(path, found));
            };
            if of == *hash {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Writes that a valid command at `at` carried the key. `latest` is what [`find`](Self::find) found, and
    /// `first` the event that the key stands for from now on.
    pub(super) fn write(
        &mut self,
        statements: &mut ClaimStatements<'_>,
        at: Coordinates,
        key: &IdempotencyKey,
        first: (i64, i64),
        clock: i64,
        latest: Option<&Found>,
    ) -> rusqlite::Result<()> {
        checksum::insert(
            &mut statements.insert,
            &CLAIMS,
            &[
                ValueRef::Integer(self.partition.into()),
                ValueRef::Integer(at.offset),
                ValueRef::Blob(&key.hash),
                ValueRef::Blob(&key.fingerprint),
                ValueRef::Integer(first.0),
                ValueRef::Integer(first.1),
                ValueRef::Integer(clock),
            ],
        )?;
        self.rows += 1;
        self.window.note(prefix(&key.hash), at.offset, clock, latest.map(|latest| latest.offset));
        self.written += 1;
        Ok(())
    }

    /// Lets go of what the window has left behind. `next_offset` is above every row.
    pub(super) fn expire(&mut self, clock: i64, next_offset: i64) {
        if let Some(below) = self.window.expire(clock, next_offset) {
            self.trim_below = Some(below);
        }
    }

    /// Deletes rows that are no longer wanted, some with each append and faster than new ones come, because an
    /// eighth of a window at once could hold up the log for minutes.
    pub(super) fn trim(&mut self, connection: &Connection) -> rusqlite::Result<()> {
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

/// What a keyed command needs of SQLite, prepared once an append, and only when the first one comes.
pub(super) struct ClaimStatements<'a> {
    select: CachedStatement<'a>,
    insert: CachedStatement<'a>,
}

impl<'a> ClaimStatements<'a> {
    pub(super) fn prepare(connection: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            select: connection
                .prepare_cached(&format!("{} WHERE partition = ?1 AND offset = ?2", CLAIMS.select))?,
            insert: connection.prepare_cached(CLAIMS.insert)?,
        })
    }

    fn row_at(&mut self, partition: i32, offset: i64) -> rusqlite::Result<Option<([u8; 16], Found)>> {
        self.select
            .query_row(params![partition, offset], |row| {
                checked(row, &CLAIMS)?;
                let found = Found {
                    offset,
                    fingerprint: row.get(3)?,
                    first_offset: row.get(4)?,
                    first_timestamp: row.get(5)?,
                    last_seen: row.get(6)?,
                };
                Ok((row.get(2)?, found))
            })
            .optional()
    }

    fn hash_at(&mut self, partition: i32, offset: i64) -> rusqlite::Result<Option<[u8; 16]>> {
        Ok(self.row_at(partition, offset)?.map(|(hash, _)| hash))
    }
}
