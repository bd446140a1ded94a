//! A temporary database for data that does not fit into memory, deleted when it is dropped.
//!
//! Its claims are simpler than the log's own idempotency window, and different on purpose: one row per key, found by an
//! index. So a mistake in one of them does not hide a mistake in the other.

use contract::{ActivityId, Claim, Coordinates, IdempotencyKey};
use rusqlite::{Connection, OptionalExtension, params};

const SCHEMA: &str = "
    CREATE TABLE claims (
        key_hash        BLOB NOT NULL PRIMARY KEY,
        fingerprint     BLOB NOT NULL,
        first_offset    INTEGER NOT NULL,
        first_timestamp INTEGER NOT NULL,
        last_seen       INTEGER NOT NULL,
        doubt           INTEGER NOT NULL  -- of the last command with this key
    ) STRICT, WITHOUT ROWID;
    -- Commands whose key may have been used by a command that the topic no longer holds.
    CREATE TABLE doubtful (
        partition INTEGER NOT NULL,
        offset    INTEGER NOT NULL,
        doubt     INTEGER NOT NULL,
        PRIMARY KEY (partition, offset)
    ) STRICT, WITHOUT ROWID;
    -- Of sorted runs: see `staging`. In a file of their own: each chunk is written and read once, so no cache helps, and in
    -- the cache of the claims they would be in the way.
    ATTACH '' AS runs;
    PRAGMA runs.journal_mode = OFF;
    PRAGMA runs.synchronous = OFF;
    PRAGMA runs.cache_size = -1024;
    CREATE TABLE runs.chunks (
        number INTEGER PRIMARY KEY,
        rows   BLOB NOT NULL
    ) STRICT;
    -- Never committed: what exceeds the cache is written to the temporary file all the same.
    BEGIN;
";
const CACHE_KIB: i64 = 32 * 1024;

/// How much is known of a command whose key may have been used by a command that the topic no longer retains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// It was decided again, knowing everything that matters.
    #[default]
    None,
    /// A log that knew everything that matters has the decision. Another log may differ.
    Trusted,
    /// There is no such log, so nothing is known of its output.
    Open,
}

impl Doubt {
    fn from_number(number: i64) -> Self {
        [Self::None, Self::Trusted].get(number as usize).copied().unwrap_or(Self::Open)
    }
}

#[derive(Debug)]
pub(crate) struct Scratch {
    connection: Connection,
    topic_bits: u16,
}

impl Scratch {
    pub(crate) fn new(topic_bits: u16) -> rusqlite::Result<Self> {
        // An empty name: a file in SQLite's folder for temporary ones, which nobody else can open.
        let connection = Connection::open("")?;
        connection.pragma_update(None, "journal_mode", "OFF")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection, topic_bits })
    }

    /// For the next partition: each has its own keys.
    pub(crate) fn forget_claims(&self) -> rusqlite::Result<()> {
        self.connection.execute("DELETE FROM claims", []).map(drop)
    }

    pub(crate) fn claim(
        &self,
        partition: i32,
        key: &IdempotencyKey,
    ) -> rusqlite::Result<Option<(Claim, Doubt)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT fingerprint, first_offset, first_timestamp, last_seen, doubt FROM claims WHERE key_hash = ?1",
        )?;
        let row = statement.query_row([key.hash], |row| {
            let first = Coordinates { partition, offset: row.get(1)?, timestamp: row.get(2)? };
            let claim = Claim {
                first: ActivityId::new(self.topic_bits, first),
                fingerprint: row.get(0)?,
                last_seen: row.get(3)?,
            };
            Ok((claim, Doubt::from_number(row.get(4)?)))
        });
        row.optional()
    }

    /// A valid command used the key, which stands for the event `first` from now on.
    pub(crate) fn put_claim(
        &self,
        key: &IdempotencyKey,
        first: ActivityId,
        clock: i64,
        doubt: Doubt,
    ) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO claims (key_hash, fingerprint, first_offset, first_timestamp, last_seen, doubt) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                key.hash,
                key.fingerprint,
                first.offset(),
                first.timestamp(),
                clock,
                doubt as i64
            ])
            .map(drop)
    }

    pub(crate) fn forget_claims_until(&self, last_seen: i64) -> rusqlite::Result<()> {
        self.connection.execute("DELETE FROM claims WHERE last_seen <= ?1", [last_seen]).map(drop)
    }

    pub(crate) fn put_doubt(&self, at: Coordinates, doubt: Doubt) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO doubtful (partition, offset, doubt) VALUES (?1, ?2, ?3)")?
            .execute([i64::from(at.partition), at.offset, doubt as i64])
            .map(drop)
    }

    pub(crate) fn doubt_of(&self, partition: i32, offset: i64) -> rusqlite::Result<Doubt> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT doubt FROM doubtful WHERE partition = ?1 AND offset = ?2")?;
        let found = statement.query_row([i64::from(partition), offset], |row| row.get(0)).optional()?;
        Ok(found.map_or(Doubt::None, Doubt::from_number))
    }

    pub(crate) fn put_chunk(&self, number: i64, rows: &[u8]) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("INSERT INTO chunks (number, rows) VALUES (?1, ?2)")?
            .execute(params![number, rows])
            .map(drop)
    }

    /// Its space in the file is free again.
    pub(crate) fn take_chunk(&self, number: i64) -> rusqlite::Result<Vec<u8>> {
        self.connection
            .prepare_cached("DELETE FROM chunks WHERE number = ?1 RETURNING rows")?
            .query_row([number], |row| row.get(0))
    }
}
