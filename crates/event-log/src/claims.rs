//! The idempotency window on disk: table `claims`.
//!
//! Rows are appended in order of offset and deleted at the old end, so the size of the window does not affect the cost
//! of an append.

use std::hash::{BuildHasher as _, RandomState};
use std::mem;
use std::sync::LazyLock;

use contract::{Coordinates, IdempotencyKey};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::checksum::{self, CLAIMS, CURSORS, DamagedRow, check_row};
use crate::lookup::MISSING;
use crate::window::Window;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClaimRow {
    offset: i64,
    hash: [u8; 16],
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
    /// Mixes the hashes for the window with a random number: otherwise somebody could choose keys that it can't tell apart.
    mixer: RandomState,
    /// Rows that are in the window, but not in the table yet.
    pending: Vec<ClaimRow>,
    /// Rows below this offset have expired. Some of them may not be deleted yet.
    trim_below: Option<i64>,
    /// How many rows were written since the last [`trim`](Self::trim).
    written: u64,
    /// How many rows the table has, with the pending ones.
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
        let mixer = RandomState::new();
        let mut claims =
            Self { partition, window, mixer, pending: Vec::new(), trim_below: None, written: 0, rows: 0 };
        let mut all =
            connection.prepare_cached(&format!("{} WHERE partition = ?1 ORDER BY offset", CLAIMS.select))?;
        let mut table = ClaimRows::prepare(connection)?;
        let mut rows = all.query([partition])?;
        while let Some(row) = rows.next()? {
            check_row(row, &CLAIMS)?;
            claims.rows += 1;
            let (offset, hash, last_seen): (i64, [u8; 16], i64) = (row.get(1)?, row.get(2)?, row.get(6)?);
            if clock.saturating_sub(last_seen) >= window_ms {
                claims.trim_below = Some(offset + 1);
                continue;
            }
            let bits = claims.mixer.hash_one(hash);
            let mut replaces = None;
            for candidate in claims.window.latest_candidates(bits) {
                if table.at(partition, candidate)?.is_some_and(|row| row.hash == hash) {
                    replaces = Some(candidate);
                    break;
                }
            }
            claims.window.insert(bits, offset, last_seen, replaces);
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
        table: &mut ClaimRows<'_>,
        hash: &[u8; 16],
    ) -> rusqlite::Result<Option<ClaimRow>> {
        for offset in self.window.candidates(self.mixer.hash_one(hash)) {
            let row = match self.pending.binary_search_by_key(&offset, |row| row.offset) {
                Ok(index) => Some(self.pending[index]),
                Err(_) => table.at(self.partition, offset)?,
            };
            let Some(row) = row else {
                let key = format!("partition {} offset {offset}", self.partition);
                return Err(DamagedRow::of_key(&CLAIMS, key, MISSING).into());
            };
            if row.hash == *hash {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Adds a row for the command at `at`, which [`write`](Self::write) inserts. `first` identifies the event that the key
    /// stands for; `latest` is the result of [`find`](Self::find).
    pub(crate) fn add(
        &mut self,
        at: Coordinates,
        key: &IdempotencyKey,
        first: (i64, i64),
        clock: i64,
        latest: Option<&ClaimRow>,
    ) {
        let IdempotencyKey { hash, fingerprint, .. } = *key;
        self.pending.push(ClaimRow { offset: at.offset, hash, fingerprint, first, last_seen: clock });
        self.window.insert(self.mixer.hash_one(hash), at.offset, clock, latest.map(|latest| latest.offset));
        self.rows += 1;
        self.written += 1;
    }

    /// Inserts the pending rows. Call it before the transaction ends.
    pub(crate) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        // Not kept: a large batch must not keep its memory.
        let pending = mem::take(&mut self.pending);
        let (groups, rest) = pending.as_chunks::<GROUP>();
        if !groups.is_empty() {
            let mut insert = connection.prepare_cached(&INSERT_GROUP)?;
            for group in groups {
                for (index, row) in group.iter().enumerate() {
                    checksum::bind_row(&mut insert, index, &CLAIMS, &row.values(self.partition))?;
                }
                insert.raw_execute()?;
            }
        }
        if !rest.is_empty() {
            let mut insert = connection.prepare_cached(CLAIMS.insert)?;
            for row in rest {
                checksum::insert(&mut insert, &CLAIMS, &row.values(self.partition))?;
            }
        }
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
        let limit = 4 * mem::take(&mut self.written) + 1000;
        let Some(below) = self.trim_below else { return Ok(()) };
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

/// How many rows one statement inserts, for two thirds of the instructions: while it runs, SQLite stays at the end of the
/// table.
const GROUP: usize = 32;

static INSERT_GROUP: LazyLock<String> = LazyLock::new(|| {
    let parameters = vec!["?"; CLAIMS.columns.len() + 1].join(", ");
    format!("{}{}", CLAIMS.insert, format!(", ({parameters})").repeat(GROUP - 1))
});

impl ClaimRow {
    fn values(&self, partition: i32) -> [ValueRef<'_>; 7] {
        [
            ValueRef::Integer(partition.into()),
            ValueRef::Integer(self.offset),
            ValueRef::Blob(&self.hash),
            ValueRef::Blob(&self.fingerprint),
            ValueRef::Integer(self.first.0),
            ValueRef::Integer(self.first.1),
            ValueRef::Integer(self.last_seen),
        ]
    }
}

/// Reads the rows of the table.
pub(crate) struct ClaimRows<'a>(CachedStatement<'a>);

impl<'a> ClaimRows<'a> {
    pub(crate) fn prepare(connection: &'a Connection) -> rusqlite::Result<Self> {
        connection
            .prepare_cached(&format!("{} WHERE partition = ?1 AND offset = ?2", CLAIMS.select))
            .map(Self)
    }

    fn at(&mut self, partition: i32, offset: i64) -> rusqlite::Result<Option<ClaimRow>> {
        let row = self.0.query_row(params![partition, offset], |row| {
            check_row(row, &CLAIMS)?;
            Ok(ClaimRow {
                offset,
                hash: row.get(2)?,
                fingerprint: row.get(3)?,
                first: (row.get(4)?, row.get(5)?),
                last_seen: row.get(6)?,
            })
        });
        row.optional()
    }
}
