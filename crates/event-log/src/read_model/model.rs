//! The read model's file.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use contract::Coordinates;
use rusqlite::{
    Connection, OpenFlags, Row, Transaction, TransactionBehavior, config::DbConfig, params, types::ValueRef,
};

use super::{
    ReadModelError,
    entries::{self, Entry},
    file::{self, APPLICATION_ID, Identity},
};
use crate::{
    DamagedRow, Draft, LogError, LogReader, Mark,
    checksum::{self, checked, table},
};

/// A model of another version is made anew.
const VERSION: i64 = 2;
table!(RUNS, "INSERT" "runs", 1 of [
    "id", "first_position", "last_position", "earliest", "latest", "partition", "offset", "timestamp",
    "checksum",
]);
table!(BLOCKS, "INSERT" "blocks", 3 of ["run", "first_hash", "block", "next_hash", "entries"]);

const BUSY: Duration = Duration::from_secs(10);

/// Which events are about which object, as far as it has followed the log.
#[derive(Debug)]
pub struct ReadModel {
    connection: Connection,
    path: PathBuf,
    /// Of the database, its -wal and its -shm file.
    opened: [Option<Identity>; 3],
}

impl Drop for ReadModel {
    /// The last connection to a database deletes its -wal file, by name: after the files were replaced that is another's.
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
    /// Of the event at `last_position`.
    pub mark: Mark,
}

impl Run {
    pub(super) fn events(&self) -> i64 {
        self.last_position - self.first_position + 1
    }

    fn of_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        checked(row, &RUNS)?;
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
        let opened = file::inspect(&path).and_then(|found| {
            let named = |error| ReadModelError::sqlite(&path, error);
            let Some(found) = found else { return Ok(None) };
            let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(named)?;
            let usable = is_usable(&connection).map_err(named)?;
            Ok(usable.then_some((connection, found)))
        });
        match opened {
            Ok(opened) => opened.and_then(|(connection, found)| Self::of(connection, path, found)),
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
            Err(error) if error.is_damage() => Self::make_again(log, &error),
            made => made,
        }
    }

    /// Throws away a model that is damaged, which costs nothing but the time to make another.
    pub(super) fn make_again(log: &Path, error: &ReadModelError) -> Result<Self, ReadModelError> {
        tracing::warn!(%error, "the read model is deleted, and built again from the log");
        Self::delete(log)?;
        Self::make(Self::path_of(log))
    }

    /// Of a connection that was just opened; `None` where what it opened is not what was looked at.
    fn of(connection: Connection, path: PathBuf, found: Identity) -> Option<Self> {
        let opened = file::identities(&path);
        (opened[0] == Some(found)).then_some(Self { connection, path, opened })
    }

    /// Whether its files are still those that were opened.
    pub(super) fn is_in_place(&self) -> bool {
        file::identities(&self.path) == self.opened
    }

    /// After its files were deleted or replaced: what stands there now, or another one.
    pub(super) fn open_again(&self, log: &Path) -> Result<Self, ReadModelError> {
        // A database that lost its -wal file lacks what was in that. SQLite would share it with the open connection.
        if file::identities(&self.path)[0] == self.opened[0] {
            Self::delete(log)?;
        }
        Self::open_or_make(log)
    }

    fn make(path: PathBuf) -> Result<Self, ReadModelError> {
        let found = match file::inspect(&path)? {
            Some(found) => found,
            None => Self::create(&path)?,
        };
        let make = || {
            let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // A power loss may take the file's last runs or all of it; it is made again.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "cache_size", -4096)?;
            // It also makes the -wal and -shm files.
            let usable = is_usable(&connection)?;
            Ok((connection, usable))
        };
        let (connection, usable) = make().map_err(|source| ReadModelError::sqlite(&path, source))?;
        if !usable {
            let found = format!("it is not of version {VERSION}");
            return Err(ReadModelError::Damaged { path, found });
        }
        let moved = ReadModelError::Moved { path: path.clone() };
        Self::of(connection, path, found).ok_or(moved)
    }

    /// An empty model, in the place of nothing or of an empty file. What SQLite left beside a model that was deleted
    /// would be replayed onto it.
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
            // Last, so that the file itself says what it is, and not only its -wal file.
            connection.pragma_update(None, "journal_mode", "WAL")
        };
        fill().map_err(|source| ReadModelError::sqlite(path, source))?;
        match draft.complete(path) {
            // Another follower was here.
            Ok(()) | Err(LogError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        file::inspect(path)?.ok_or_else(|| ReadModelError::Moved { path: path.to_owned() })
    }

    /// Deletes the model of that log; what is not one is refused.
    pub fn delete(log: &Path) -> Result<(), ReadModelError> {
        file::delete(&Self::path_of(log))
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
            // A damaged row of the log is named by who reads the log there.
            if first_position != next || log.mark(last_position).ok().flatten() != Some(mark) {
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
                .prepare_cached(&format!("{} ORDER BY first_position", RUNS.select))?
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
                // All begin above it, or they are gone: the first one says.
                let mut statement = self.connection.prepare_cached(&format!(
                    "{} WHERE run = ?1 ORDER BY first_hash, block LIMIT 1",
                    BLOCKS.select
                ))?;
                let mut rows = statement.query([run.id])?;
                while let Some(row) = rows.next()? {
                    chain.entries(row, run)?;
                }
            }
            Ok(chain.holds(hash as i64).then_some(positions))
        };
        let positions = read().map_err(|source| self.named(source))?;
        positions.ok_or_else(|| self.incomplete(run))
    }

    /// All entries of the runs.
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
            read().map_err(|source| self.named(source))?;
            if usize::try_from(run.events()) != Ok(all.len() - before) {
                return Err(self.incomplete(run));
            }
        }
        Ok(all)
    }

    /// Whether every run and block is as it was written.
    pub fn check(&self) -> Result<(), ReadModelError> {
        // Runs may be merged meanwhile.
        let _snapshot = self.snapshot()?;
        self.all_runs()?.into_iter().try_for_each(|run| self.entries(&[run]).map(drop))
    }

    fn incomplete(&self, run: &Run) -> ReadModelError {
        let found = format!("blocks of run {} are missing", run.id);
        ReadModelError::Damaged { path: self.path.clone(), found }
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
        ReadModelError::sqlite(&self.path, source)
    }
}

/// Blocks of a run that were read one after another: each names the next, so one that SQLite does not find is missed.
#[derive(Debug, Default)]
struct Chain {
    /// Number and first hash of the first one.
    first: Option<(i64, i64)>,
    /// Number and next hash of the last one.
    last: (i64, Option<i64>),
}

impl Chain {
    /// The entries of the next block.
    fn entries(&mut self, row: &Row<'_>, run: &Run) -> rusqlite::Result<Vec<Entry>> {
        checked(row, &BLOCKS)?;
        let (first_hash, block, next_hash): (i64, i64, Option<i64>) = (row.get(1)?, row.get(2)?, row.get(3)?);
        if self.first.is_some() && (self.last.0 + 1, self.last.1) != (block, Some(first_hash)) {
            let found = format!("block {block} comes after block {}", self.last.0);
            return Err(DamagedRow { table: BLOCKS.name, row: format!("run {}", run.id), found }.into());
        }
        self.first.get_or_insert((block, first_hash));
        self.last = (block, next_hash);
        Ok(entries::of_block(row.get_ref(4)?.as_blob()?, run.first_position).collect())
    }

    /// Whether all entries with that hash are in these blocks.
    fn holds(&self, hash: i64) -> bool {
        let begins = self.first.is_some_and(|(block, first_hash)| block == 0 || first_hash < hash);
        begins && self.last.1.is_none_or(|next| next > hash)
    }
}

fn insert(transaction: &Connection, run: &Run, entries: &[Entry]) -> rusqlite::Result<()> {
    let Run { id, first_position, last_position, earliest, latest, mark } = *run;
    let Coordinates { partition, offset, timestamp } = mark.coordinates;
    let mark = [partition.into(), offset, timestamp, mark.checksum.into()];
    let of_run = [id, first_position, last_position, earliest, latest];
    let values: Vec<_> = of_run.into_iter().chain(mark).map(ValueRef::Integer).collect();
    checksum::insert_one(transaction, &RUNS, &values)?;
    let mut statement = transaction.prepare_cached(BLOCKS.insert)?;
    for (number, (first_hash, next_hash, block)) in (0..).zip(entries::blocks(entries, first_position)) {
        let values = [
            ValueRef::Integer(id),
            ValueRef::Integer(first_hash),
            ValueRef::Integer(number),
            next_hash.map_or(ValueRef::Null, ValueRef::Integer),
            ValueRef::Blob(&block),
        ];
        checksum::insert(&mut statement, &BLOCKS, &values)?;
    }
    Ok(())
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    // SQLite refuses links in all of the path then; the log's folder may be one.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let real = folder.canonicalize().ok().zip(path.file_name()).map(|(folder, name)| folder.join(name));
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(real.as_deref().unwrap_or(path), flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn is_usable(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(number("application_id")? == i64::from(APPLICATION_ID) && number("user_version")? == VERSION)
}
