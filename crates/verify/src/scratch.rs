//! What deciding again has to remember, on disk: a temporary database that goes with the checker.
//!
//! Simpler than the log's own idempotency window, and on purpose not the same: one row a key, found by its index.
//! What is wrong with one of them can't hide in the other.

use contract::{ActivityId, Claim, Coordinates, Decision, IdempotencyKey, Problems};
use rusqlite::{Connection, OptionalExtension, params};

const SCHEMA: &str = "
    CREATE TABLE claims (
        key_hash        BLOB NOT NULL PRIMARY KEY,
        fingerprint     BLOB NOT NULL,
        first_offset    INTEGER NOT NULL,
        first_timestamp INTEGER NOT NULL,
        last_seen       INTEGER NOT NULL,
        doubt           INTEGER NOT NULL  -- of the command that last carried it
    ) STRICT, WITHOUT ROWID;
    -- Commands with a key that did not become an event: what must be known to read them again.
    CREATE TABLE outcomes (
        partition    INTEGER NOT NULL,
        offset       INTEGER NOT NULL,
        of_offset    INTEGER,
        of_timestamp INTEGER,
        problems     TEXT,
        PRIMARY KEY (partition, offset)
    ) STRICT, WITHOUT ROWID;
    -- Commands whose key may have been used by one that the topic no longer holds.
    CREATE TABLE doubtful (
        partition INTEGER NOT NULL,
        offset    INTEGER NOT NULL,
        doubt     INTEGER NOT NULL,
        PRIMARY KEY (partition, offset)
    ) STRICT, WITHOUT ROWID;
    -- Never committed: what does not fit into the cache goes to the temporary file all the same.
    BEGIN;
";
const CACHE_KIB: i64 = 32 * 1024;

/// How far it is known what a command became whose key may have been used by one that the topic no longer holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// It was decided again, knowing all that matters.
    #[default]
    None,
    /// A log that knew all that matters says so. One that did not may have decided otherwise.
    Believed,
    /// There is no such log, so nothing that follows is known.
    Open,
}

impl Doubt {
    fn from_number(number: i64) -> Self {
        [Self::None, Self::Believed].get(number as usize).copied().unwrap_or(Self::Open)
    }
}

/// The temporary database.
#[derive(Debug)]
pub struct Scratch {
    connection: Connection,
    topic_bits: u16,
    window_ms: i64,
    /// The clock when old claims were last deleted.
    swept: i64,
}

impl Scratch {
    pub fn new(topic_bits: u16, window_ms: i64) -> rusqlite::Result<Self> {
        // An empty name: a file in SQLite's folder for temporary ones, which nobody else can open.
        let connection = Connection::open("")?;
        connection.pragma_update(None, "journal_mode", "OFF")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection, topic_bits, window_ms, swept: 0 })
    }

    /// Another partition begins; keys are its own.
    pub fn begin(&mut self) -> rusqlite::Result<()> {
        self.swept = 0;
        self.connection.execute("DELETE FROM claims", []).map(drop)
    }

    pub fn claim(&self, partition: i32, key: &IdempotencyKey) -> rusqlite::Result<Option<(Claim, Doubt)>> {
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

    /// A valid command carried the key: `first` is the event that the key stands for from now on.
    pub fn note(
        &mut self,
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
            ])?;
        // Once a window, so that the file holds two of them at most.
        if clock.saturating_sub(self.swept) >= self.window_ms {
            let horizon = clock.saturating_sub(self.window_ms);
            self.connection.execute("DELETE FROM claims WHERE last_seen <= ?1", [horizon])?;
            self.swept = clock;
        }
        Ok(())
    }

    /// Keeps what a command with a key became, unless that is an event.
    pub fn keep(&self, at: Coordinates, decision: &Decision) -> rusqlite::Result<()> {
        let (of, problems) = match decision {
            Decision::Accepted(_) => return Ok(()),
            Decision::Duplicate { of } => (Some(of), None),
            Decision::Rejected(problems) => (None, Some(problems.to_json())),
        };
        self.connection
            .prepare_cached(
                "INSERT INTO outcomes (partition, offset, of_offset, of_timestamp, problems) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                at.partition,
                at.offset,
                of.map(ActivityId::offset),
                of.map(ActivityId::timestamp),
                problems
            ])
            .map(drop)
    }

    /// What a command with a key became, if not an event.
    pub fn kept(&self, at: Coordinates) -> rusqlite::Result<Option<Decision>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT of_offset, of_timestamp, problems FROM outcomes WHERE partition = ?1 AND offset = ?2",
        )?;
        let row = statement.query_row(params![at.partition, at.offset], |row| {
            let (of, problems): (Option<i64>, Option<String>) = (row.get(0)?, row.get(2)?);
            Ok(match (of, problems) {
                (Some(offset), _) => {
                    let first = Coordinates { partition: at.partition, offset, timestamp: row.get(1)? };
                    Decision::Duplicate { of: ActivityId::new(self.topic_bits, first) }
                }
                // Written here, from problems.
                (None, problems) => Decision::Rejected(
                    serde_json::from_str(&problems.unwrap_or_default()).unwrap_or(Problems(Vec::new())),
                ),
            })
        });
        row.optional()
    }

    pub fn doubt(&self, at: Coordinates, doubt: Doubt) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO doubtful (partition, offset, doubt) VALUES (?1, ?2, ?3)")?
            .execute([i64::from(at.partition), at.offset, doubt as i64])
            .map(drop)
    }

    pub fn doubt_of(&self, partition: i32, offset: i64) -> rusqlite::Result<Doubt> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT doubt FROM doubtful WHERE partition = ?1 AND offset = ?2")?;
        let found = statement.query_row([i64::from(partition), offset], |row| row.get(0)).optional()?;
        Ok(found.map_or(Doubt::None, Doubt::from_number))
    }
}
