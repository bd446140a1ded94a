//! The read model's file.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, Row, Transaction, TransactionBehavior, params};

use super::{
    ReadModelError,
    entries::{self, Entry},
};
use crate::{
    activity::Coordinates,
    event_log::{self, LogReader, Mark},
};

/// `AcRm`. <https://sqlite.org/pragma.html#pragma_application_id>
const APPLICATION_ID: i64 = 0x4163_526d;
/// A model of another version is made anew.
const VERSION: i64 = 1;
const BUSY: Duration = Duration::from_secs(10);

/// Which events are about which object, as far as it has followed the log.
#[derive(Debug)]
pub struct ReadModel {
    connection: Connection,
    path: PathBuf,
}

/// Events of consecutive positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub id: i64,
    pub first_position: i64,
    pub last_position: i64,
    /// Record timestamps.
    pub earliest: i64,
    pub latest: i64,
    /// Of the event at `last_position`.
    pub mark: Mark,
}

impl Run {
    pub(super) fn events(&self) -> i64 {
        self.last_position - self.first_position + 1
    }

    fn of_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let coordinates = Coordinates { partition: row.get(5)?, offset: row.get(6)?, timestamp: row.get(7)? };
        Ok(Self {
            id: row.get(0)?,
            first_position: row.get(1)?,
            last_position: row.get(2)?,
            earliest: row.get(3)?,
            latest: row.get(4)?,
            mark: Mark { coordinates, checksum: row.get(8)? },
        })
    }
}

impl ReadModel {
    /// Where the read model of that log is.
    #[must_use]
    pub fn path_of(log: &Path) -> PathBuf {
        let mut name = log.as_os_str().to_owned();
        name.push("-read-model");
        PathBuf::from(name)
    }

    /// The model of that log for queries; `None` where there is none that can be used.
    #[must_use]
    pub fn open(log: &Path) -> Option<Self> {
        let path = Self::path_of(log);
        if !path.is_file() {
            return None;
        }
        let opened = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(|connection| {
            let usable = is_usable(&connection)?;
            Ok(usable.then_some(connection))
        });
        match opened {
            Ok(connection) => connection.map(|connection| Self { connection, path }),
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "the read model is not used");
                None
            }
        }
    }

    /// The model of that log for its follower: made where it is missing, made anew where it cannot be used.
    pub(super) fn open_or_make(log: &Path) -> Result<Self, ReadModelError> {
        let path = Self::path_of(log);
        match Self::make(path.clone()) {
            Err(ReadModelError::Sqlite { source, .. }) if is_damage(&source) => {
                tracing::warn!(path = %path.display(), error = %source, "the read model is made anew");
                Self::delete(log)?;
                Self::make(path)
            }
            made => made,
        }
    }

    fn make(path: PathBuf) -> Result<Self, ReadModelError> {
        if event_log::find(&path)?.is_none() {
            event_log::make_private(&path).map_err(|source| {
                let (path, doing) = (path.clone(), "making the read model");
                ReadModelError::Io { path, doing, source }
            })?;
        }
        let named = |source| ReadModelError::Sqlite { path: path.clone(), source };
        let make = || {
            let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // A power loss may take the file's last runs or all of it; it is made again.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "cache_size", -4096)?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if !is_usable(&transaction)? {
                let tables: i64 =
                    transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
                if tables > 0 {
                    return Err(rusqlite::Error::SqliteFailure(
                        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB),
                        Some("not a read model of this version".to_owned()),
                    ));
                }
                transaction.execute_batch(include_str!("schema.sql"))?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
            }
            transaction.commit()?;
            Ok(connection)
        };
        let connection = make().map_err(named)?;
        Ok(Self { connection, path })
    }

    /// Deletes the model of that log.
    pub fn delete(log: &Path) -> Result<(), ReadModelError> {
        for suffix in ["", "-wal", "-shm"] {
            let mut path = Self::path_of(log).into_os_string();
            path.push(suffix);
            let path = PathBuf::from(path);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(ReadModelError::Io { path, doing: "deleting the read model", source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The position up to which the model follows that log; 0 where it follows another.
    pub fn covered(&self, log: &LogReader) -> Result<i64, ReadModelError> {
        Ok(self.runs(log)?.last().map_or(0, |run| run.last_position))
    }

    /// The runs that are of this log, in order of position and without holes. Where the log was put back to an
    /// older copy, or another took its place, the rest is left out.
    pub(super) fn runs(&self, log: &LogReader) -> Result<Vec<Run>, ReadModelError> {
        let mut runs = self.all_runs()?;
        let mut next = 1;
        for index in 0..runs.len() {
            let Run { first_position, last_position, mark, .. } = runs[index];
            if first_position != next || log.mark(last_position)? != Some(mark) {
                runs.truncate(index);
                break;
            }
            next = last_position + 1;
        }
        Ok(runs)
    }

    /// Every run, of this log or not.
    pub(super) fn all_runs(&self) -> Result<Vec<Run>, ReadModelError> {
        let read = || {
            self.connection
                .prepare_cached(
                    "SELECT id, first_position, last_position, earliest, latest, partition, offset, timestamp, \
                     checksum FROM runs ORDER BY first_position",
                )?
                .query_map([], Run::of_row)?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|source| self.named(source))
    }

    /// One state of the model for several reads.
    pub(super) fn snapshot(&self) -> Result<Transaction<'_>, ReadModelError> {
        self.connection.unchecked_transaction().map_err(|source| self.named(source))
    }

    /// Positions, in ascending order, of the run's events about objects with that hash.
    pub(super) fn positions(&self, run: &Run, hash: u64) -> Result<Vec<i64>, ReadModelError> {
        let read = || -> rusqlite::Result<_> {
            // The last block that begins below the hash may end with it.
            let mut statement = self.connection.prepare_cached(
                "SELECT entries FROM blocks WHERE run = ?1 AND first_hash BETWEEN coalesce((SELECT first_hash \
                 FROM blocks WHERE run = ?1 AND first_hash < ?2 ORDER BY first_hash DESC LIMIT 1), 0) AND ?2 \
                 ORDER BY first_hash, block",
            )?;
            let mut rows = statement.query(params![run.id, hash as i64])?;
            let mut positions = Vec::new();
            while let Some(row) = rows.next()? {
                let entries = entries::of_block(row.get_ref(0)?.as_blob()?, run.first_position);
                positions.extend(entries.filter(|entry| entry.hash == hash).map(|entry| entry.position));
            }
            Ok(positions)
        };
        read().map_err(|source| self.named(source))
    }

    /// All entries of the runs.
    pub(super) fn entries(&self, runs: &[Run]) -> Result<Vec<Entry>, ReadModelError> {
        let read = || -> rusqlite::Result<_> {
            let mut all = Vec::new();
            let mut statement =
                self.connection.prepare_cached("SELECT entries FROM blocks WHERE run = ?1")?;
            for run in runs {
                let mut rows = statement.query([run.id])?;
                while let Some(row) = rows.next()? {
                    all.extend(entries::of_block(row.get_ref(0)?.as_blob()?, run.first_position));
                }
            }
            Ok(all)
        };
        read().map_err(|source| self.named(source))
    }

    /// Puts a run, with its sorted entries, in the place of others, all in one transaction, and gives what is there
    /// then. `None`, and nothing is changed, where another follower was here since `seen` was read.
    pub(super) fn replace(
        &self,
        seen: &[Run],
        replaced: Range<usize>,
        new: Option<(Run, &[Entry])>,
    ) -> Result<Option<Vec<Run>>, ReadModelError> {
        let sqlite = |source| self.named(source);
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate);
        let transaction = transaction.map_err(sqlite)?;
        if self.all_runs()? != seen {
            return Ok(None);
        }
        let mut runs = seen.to_vec();
        let added = new.map(|(run, entries)| {
            let id = seen.iter().map(|run| run.id).max().unwrap_or(0) + 1;
            (Run { id, ..run }, entries)
        });
        let write = || -> rusqlite::Result<()> {
            for run in &seen[replaced.clone()] {
                transaction.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([run.id])?;
                transaction.prepare_cached("DELETE FROM blocks WHERE run = ?1")?.execute([run.id])?;
            }
            if let Some((run, entries)) = &added {
                insert(&transaction, run, entries)?;
            }
            Ok(())
        };
        write().map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
        runs.splice(replaced, added.map(|(run, _)| run));
        Ok(Some(runs))
    }

    fn named(&self, source: rusqlite::Error) -> ReadModelError {
        ReadModelError::Sqlite { path: self.path.clone(), source }
    }
}

fn insert(transaction: &Connection, run: &Run, entries: &[Entry]) -> rusqlite::Result<()> {
    let Run { id, first_position, last_position, earliest, latest, mark } = *run;
    let Coordinates { partition, offset, timestamp } = mark.coordinates;
    transaction.prepare_cached("INSERT INTO runs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
        params![
            id,
            first_position,
            last_position,
            earliest,
            latest,
            partition,
            offset,
            timestamp,
            mark.checksum
        ],
    )?;
    let mut statement = transaction
        .prepare_cached("INSERT INTO blocks (run, block, first_hash, entries) VALUES (?1, ?2, ?3, ?4)")?;
    for (number, (first_hash, block)) in entries::blocks(entries, first_position).enumerate() {
        statement.execute(params![id, number as i64, first_hash, block])?;
    }
    Ok(())
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn is_usable(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(number("application_id")? == APPLICATION_ID && number("user_version")? == VERSION)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
    )
}
