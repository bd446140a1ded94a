//! The content of the read model.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::Coordinates;
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row, Transaction, TransactionBehavior, params};

use crate::checksum::{self, DamagedRow, check_row, coordinates, optional, table};
use crate::draft::Draft;
use crate::error::LogError;
use crate::files::{self, Identity, with_suffix};
use crate::read_model::ReadModelError;
use crate::read_model::entries::{self, Entry};
use crate::read_model::file::{self, APPLICATION_ID};
use crate::reader::{LogReader, RecordIdentity};

/// A model of another version is rebuilt.
const VERSION: i64 = 2;
table!(RUNS, "INSERT" "runs", 1 of [
    "id", "first_position", "last_position", "earliest", "latest", "partition", "offset", "timestamp",
    "checksum",
]);
table!(BLOCKS, "INSERT" "blocks", 3 of ["run", "first_hash", "block", "next_hash", "entries"]);

const BUSY: Duration = Duration::from_secs(10);

/// An index of the log's events, up to the position that it covers.
#[derive(Debug)]
pub struct ReadModel {
    connection: Connection,
    path: PathBuf,
    /// The database, its -wal and its -shm file.
    opened: [Option<Identity>; 3],
}

impl Drop for ReadModel {
    /// SQLite deletes the -wal file by name when it closes. If the files were replaced, it belongs to another database.
    fn drop(&mut self) {
        if !self.is_in_place() {
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
    }
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
    /// The event at `last_position`, to recognise the log.
    pub last_record: RecordIdentity,
}

impl Run {
    pub(super) fn events(&self) -> i64 {
        self.last_position - self.first_position + 1
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        check_row(row, &RUNS)?;
        Ok(Self {
            id: row.get(0)?,
            first_position: row.get(1)?,
            last_position: row.get(2)?,
            earliest: row.get(3)?,
            latest: row.get(4)?,
            last_record: RecordIdentity { coordinates: coordinates(row, 5)?, checksum: row.get(8)? },
        })
    }
}

impl ReadModel {
    /// The path of a log's read model.
    #[must_use]
    pub fn path_of(log: &Path) -> PathBuf {
        with_suffix(log, "-read-model")
    }

    /// Opens the log's model for queries; `None` if there is no usable one.
    #[must_use]
    pub fn open(log: &Path) -> Option<Self> {
        let path = Self::path_of(log);
        let opened = file::inspect(&path).and_then(|found| {
            let Some(found) = found else { return Ok(None) };
            let open = || {
                let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                Ok(is_usable(&connection)?.then_some(connection))
            };
            let connection = open().map_err(|error| ReadModelError::sqlite(&path, error))?;
            Ok(connection.and_then(|connection| Self::new(connection, &path, found)))
        });
        opened.unwrap_or_else(|error| {
            tracing::debug!(path = %path.display(), %error, "not using the read model");
            None
        })
    }

    /// Opens the log's model for its follower. Creates it if it is missing, rebuilds it if it is damaged.
    pub(super) fn open_or_create(log: &Path) -> Result<Self, ReadModelError> {
        match Self::open_for_follower(&Self::path_of(log)) {
            Err(error) if error.is_damage() => Self::replace_damaged(log, &error),
            opened => opened,
        }
    }

    /// Deletes a damaged model and creates an empty one, which costs only the time to fill it again.
    pub(super) fn replace_damaged(log: &Path, error: &ReadModelError) -> Result<Self, ReadModelError> {
        tracing::warn!(%error, "deleting the read model and rebuilding it from the log");
        Self::delete(log)?;
        Self::open_for_follower(&Self::path_of(log))
    }

    /// `None` if SQLite opened another file than `inspect` found.
    fn new(connection: Connection, path: &Path, found: Identity) -> Option<Self> {
        let opened = file::identities(path);
        (opened[0] == Some(found)).then(|| Self { connection, path: path.to_owned(), opened })
    }

    /// Whether its files are still those that were opened.
    pub(super) fn is_in_place(&self) -> bool {
        file::identities(&self.path) == self.opened
    }

    /// Opens the model again after its files were deleted or replaced.
    pub(super) fn reopen(&self, log: &Path) -> Result<Self, ReadModelError> {
        // If only the -wal file was deleted, the database lacks its content, and SQLite would share it with this
        // connection.
        if file::identities(&self.path)[0] == self.opened[0] {
            Self::delete(log)?;
        }
        Self::open_or_create(log)
    }

    fn open_for_follower(path: &Path) -> Result<Self, ReadModelError> {
        let found = match file::inspect(path)? {
            Some(found) => found,
            None => Self::create(path)?,
        };
        let open = || {
            let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // Power loss may undo the last runs, or damage the file. It is rebuilt then.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "cache_size", -4096)?;
            // Also creates the -wal and -shm files.
            let is_usable = is_usable(&connection)?;
            Ok((connection, is_usable))
        };
        let path = path.to_owned();
        match open() {
            Ok((connection, true)) => {
                Self::new(connection, &path, found).ok_or(ReadModelError::Moved { path })
            }
            Ok((_, false)) => {
                let found = format!("it is not of version {VERSION}");
                Err(ReadModelError::Damaged { path, found })
            }
            Err(error) => Err(ReadModelError::sqlite(&path, error)),
        }
    }

    /// Creates an empty model if there is no file or an empty one. First deletes the -wal and -shm files of a deleted
    /// model, which SQLite would replay onto it.
    fn create(path: &Path) -> Result<Identity, ReadModelError> {
        file::delete(path)?;
        let draft = Draft::beside(path)?;
        let fill = || -> rusqlite::Result<()> {
            let mut connection = connect(draft.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            let transaction = connection.transaction()?;
            transaction.execute_batch(include_str!("schema.sql"))?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
            // Last: `inspect` reads the application id in the file, so it must not be in the -wal file only.
            connection.pragma_update(None, "journal_mode", "WAL")
        };
        fill().map_err(|error| ReadModelError::sqlite(path, error))?;
        match draft.complete(path) {
            // Another follower was faster.
            Ok(()) | Err(LogError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        file::inspect(path)?.ok_or_else(|| ReadModelError::Moved { path: path.to_owned() })
    }

    /// Deletes the log's model. Returns an error for any other file.
    pub fn delete(log: &Path) -> Result<(), ReadModelError> {
        file::delete(&Self::path_of(log))
    }

    /// The last position that the model covers; 0 if it belongs to another log.
    pub fn covered(&self, log: &LogReader) -> Result<i64, ReadModelError> {
        Ok(self.runs(log)?.last().map_or(0, |run| run.last_position))
    }

    /// The runs that belong to this log, in order of position and without holes. If the log was restored from an older
    /// copy or replaced, the others are left out.
    pub(super) fn runs(&self, log: &LogReader) -> Result<Vec<Run>, ReadModelError> {
        let mut runs = self.all_runs()?;
        let mut next = 1;
        for index in 0..runs.len() {
            let Run { first_position, last_position, last_record, .. } = runs[index];
            // If the row is damaged, the query reads it from the log and reports it.
            if first_position != next || log.record_at(last_position).ok().flatten() != Some(last_record) {
                runs.truncate(index);
                break;
            }
            next = last_position + 1;
        }
        Ok(runs)
    }

    /// All runs, also those of another log.
    pub(super) fn all_runs(&self) -> Result<Vec<Run>, ReadModelError> {
        let read = || {
            self.connection
                .prepare_cached(&format!("{} ORDER BY first_position", RUNS.select))?
                .query_map([], Run::read)?
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|error| self.sqlite(error))
    }

    /// A read transaction.
    pub(super) fn snapshot(&self) -> Result<Transaction<'_>, ReadModelError> {
        self.connection.unchecked_transaction().map_err(|error| self.sqlite(error))
    }

    /// The positions of the run's events of objects with that hash, in ascending order.
    pub(super) fn positions(&self, run: &Run, hash: u64) -> Result<Vec<i64>, ReadModelError> {
        let read = || -> rusqlite::Result<_> {
            // Begins with the last block whose first hash is lower, since it may end with this hash.
            let mut statement = self.connection.prepare_cached(&format!(
                "{} WHERE run = ?1 AND first_hash BETWEEN coalesce((SELECT first_hash FROM blocks WHERE run = ?1 \
                 AND first_hash < ?2 ORDER BY first_hash DESC LIMIT 1), 0) AND ?2 ORDER BY first_hash, block",
                BLOCKS.select
            ))?;
            let mut rows = statement.query(params![run.id, hash as i64])?;
            let (mut chain, mut positions) = (Chain::default(), Vec::new());
            while let Some(row) = rows.next()? {
                let entries = chain.entries(row, run)?.into_iter();
                positions.extend(entries.filter(|entry| entry.hash == hash).map(|entry| entry.position));
            }
            drop(rows);
            if chain.first.is_none() {
                // All blocks begin above the hash, or they are missing. The first block tells.
                let mut statement = self.connection.prepare_cached(&format!(
                    "{} WHERE run = ?1 ORDER BY first_hash, block LIMIT 1",
                    BLOCKS.select
                ))?;
                let mut rows = statement.query([run.id])?;
                while let Some(row) = rows.next()? {
                    chain.entries(row, run)?;
                }
            }
            Ok(chain.contains(hash as i64).then_some(positions))
        };
        let positions = read().map_err(|error| self.sqlite(error))?;
        positions.ok_or_else(|| self.incomplete(run))
    }

    /// All entries of these runs.
    pub(super) fn entries(&self, runs: &[Run]) -> Result<Vec<Entry>, ReadModelError> {
        let mut all = Vec::new();
        for run in runs {
            let before = all.len();
            let mut read = || -> rusqlite::Result<()> {
                let mut statement = self.connection.prepare_cached(&format!(
                    "{} WHERE run = ?1 ORDER BY first_hash, block",
                    BLOCKS.select
                ))?;
                let mut rows = statement.query([run.id])?;
                let mut chain = Chain::default();
                while let Some(row) = rows.next()? {
                    all.extend(chain.entries(row, run)?);
                }
                Ok(())
            };
            read().map_err(|error| self.sqlite(error))?;
            if usize::try_from(run.events()) != Ok(all.len() - before) {
                return Err(self.incomplete(run));
            }
        }
        Ok(all)
    }

    /// Checks every run and block.
    pub fn check(&self) -> Result<(), ReadModelError> {
        // The follower may merge runs in the meantime.
        let _snapshot = self.snapshot()?;
        self.all_runs()?.into_iter().try_for_each(|run| self.entries(&[run]).map(drop))
    }

    fn incomplete(&self, run: &Run) -> ReadModelError {
        let found = format!("blocks of run {} are missing", run.id);
        ReadModelError::Damaged { path: self.path.clone(), found }
    }

    /// Replaces runs by another one with sorted entries, in one transaction, and returns the runs. Returns `None`, and
    /// changes nothing, if another follower has changed the model since `seen` was read.
    pub(super) fn replace(
        &self,
        seen: &[Run],
        replaced: Range<usize>,
        new: Option<(Run, &[Entry])>,
    ) -> Result<Option<Vec<Run>>, ReadModelError> {
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(|error| self.sqlite(error))?;
        if self.all_runs()? != seen {
            return Ok(None);
        }
        let id = seen.iter().map(|run| run.id).max().unwrap_or(0) + 1;
        let added = new.map(|(run, entries)| (Run { id, ..run }, entries));
        let write = || -> rusqlite::Result<()> {
            for run in &seen[replaced.clone()] {
                transaction.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([run.id])?;
                transaction.prepare_cached("DELETE FROM blocks WHERE run = ?1")?.execute([run.id])?;
            }
            if let Some((run, entries)) = &added {
                insert(&transaction, run, entries)?;
            }
            transaction.commit()
        };
        write().map_err(|error| self.sqlite(error))?;
        let mut runs = seen.to_vec();
        runs.splice(replaced, added.map(|(run, _)| run));
        Ok(Some(runs))
    }

    fn sqlite(&self, error: rusqlite::Error) -> ReadModelError {
        ReadModelError::sqlite(&self.path, error)
    }
}

/// Consecutive blocks of a run. Each names the next one, so a missing block is noticed.
#[derive(Debug, Default)]
struct Chain {
    /// Number and first hash of the first block.
    first: Option<(i64, i64)>,
    /// Number and next hash of the last block.
    last: (i64, Option<i64>),
}

impl Chain {
    /// Reads the next block.
    fn entries(&mut self, row: &Row<'_>, run: &Run) -> rusqlite::Result<Vec<Entry>> {
        check_row(row, &BLOCKS)?;
        let (first_hash, block, next_hash): (i64, i64, Option<i64>) = (row.get(1)?, row.get(2)?, row.get(3)?);
        if self.first.is_some() && (self.last.0 + 1, self.last.1) != (block, Some(first_hash)) {
            let found = format!("block {block} comes after block {}", self.last.0);
            return Err(DamagedRow::of_key(&BLOCKS, format!("run {}", run.id), found).into());
        }
        self.first.get_or_insert((block, first_hash));
        self.last = (block, next_hash);
        Ok(entries::of_block(row.get_ref(4)?.as_blob()?, run.first_position).collect())
    }

    /// Whether these blocks contain all entries with that hash.
    fn contains(&self, hash: i64) -> bool {
        let begins = self.first.is_some_and(|(block, first_hash)| block == 0 || first_hash < hash);
        begins && self.last.1.is_none_or(|next| next > hash)
    }
}

fn insert(transaction: &Connection, run: &Run, entries: &[Entry]) -> rusqlite::Result<()> {
    let Run { id, first_position, last_position, earliest, latest, last_record } = *run;
    let Coordinates { partition, offset, timestamp } = last_record.coordinates;
    let (partition, checksum) = (partition.into(), last_record.checksum.into());
    let values =
        [id, first_position, last_position, earliest, latest, partition, offset, timestamp, checksum];
    checksum::insert_one(transaction, &RUNS, &values.map(ValueRef::Integer))?;
    let mut statement = transaction.prepare_cached(BLOCKS.insert)?;
    for (number, (first_hash, next_hash, block)) in (0..).zip(entries::blocks(entries, first_position)) {
        let values = [
            ValueRef::Integer(id),
            ValueRef::Integer(first_hash),
            ValueRef::Integer(number),
            optional(next_hash),
            ValueRef::Blob(&block),
        ];
        checksum::insert(&mut statement, &BLOCKS, &values)?;
    }
    Ok(())
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    // With `NOFOLLOW`, SQLite refuses a link anywhere in the path, but the log's folder may be one.
    let folder = files::folder(path).canonicalize().ok();
    let real = folder.zip(path.file_name()).map(|(folder, name)| folder.join(name));
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(real.as_deref().unwrap_or(path), flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn is_usable(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(number("application_id")? == i64::from(APPLICATION_ID) && number("user_version")? == VERSION)
}
