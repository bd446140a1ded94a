//! The one writer.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use uuid::Uuid;

use super::checksum::{self, GAPS, INTERVENTIONS, META};
use super::claims::Claims;
use super::cursor::CursorRow;
use super::files::{InodeLock, LogFiles};
use super::instance::Instance;
use super::schema::{self, Presence};
use super::{Cursor, LogError, LogOptions, LogReader, Recorded, check, files, lookup, preflight};

/// Pages of WAL after which SQLite moves them into the database: 62 MiB. Measured; the default is 1000.
const WAL_PAGES: u32 = 16_000;

/// To which an append larger than usual lets the -wal file grow, until the next checkpoint cuts it.
pub(super) const WAL_LIMIT: u64 = 2 * WAL_PAGES as u64 * 4096;

/// The one that appends. While it lives nobody else can open the log for writing.
#[derive(Debug)]
pub struct EventLog {
    pub(super) connection: Connection,
    path: PathBuf,
    pub(super) files: LogFiles,
    instance: Instance,
    /// Closed after the connection, see [`InodeLock`].
    _inode: InodeLock,
    topic: String,
    pub(super) topic_bits: u16,
    pub(super) window_ms: i64,
    /// Positions are 1, 2, ... `next_position - 1`, without holes.
    pub(super) next_position: i64,
    /// Table `cursors`, as committed.
    pub(super) rows: BTreeMap<i32, CursorRow>,
    /// The window of each partition that had a command with a key.
    pub(super) claims: HashMap<i32, Claims>,
}

/// Offsets that the log never saw, and never will: `[first_offset, next_offset)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub first_offset: i64,
    pub next_offset: i64,
    pub reason: String,
}

/// A person overruled a stop of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervention {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The flag that was given.
    pub flag: String,
    pub details: String,
}

impl EventLog {
    /// Opens the log for writing: makes it where it is missing, upgrades it where it is older, and locks it.
    ///
    /// A file that is no log, damaged, newer, of another topic or in use is refused and left as it is.
    pub fn open(options: &LogOptions) -> Result<Self, LogError> {
        let path = files::real(&options.path);
        // Before anything is made beside it, where it is there.
        let present = schema::inspect(&path)?;
        preflight::check_writable(&path)?;
        let inode = match present {
            Presence::Missing => None,
            Presence::Log => Some(InodeLock::take(&path)?),
        };
        preflight::examine_files(&path)?;
        let instance = Instance::take(&path)?;
        // Again: only now can nobody else be making it.
        let present = schema::inspect(&path)?;
        if present == Presence::Missing {
            schema::create(&path, &options.topic)?;
        }
        let inode = match inode {
            Some(inode) => inode,
            None => InodeLock::take(&path)?,
        };
        if present == Presence::Log {
            if let Some(found) = check::wal_damage(&path)? {
                tracing::warn!(path = %path.display(), "{found}");
            }
            let connection = schema::open_at_rest(&path)?;
            let (version, topic) = schema::examine(&path, &connection, Some(&options.topic))?;
            schema::check_counts(&path, &connection)?;
            if version < schema::VERSION {
                let topic_bits = contract::topic_bits(&topic);
                check::refuse_findings(&LogReader { connection, path: path.clone(), topic, topic_bits })?;
            }
        }
        let mut connection = schema::open(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        configure(&connection, options).map_err(|error| LogError::sqlite(&path, Some(&connection), error))?;
        schema::upgrade(&path, &mut connection)?;
        schema::examine(&path, &connection, Some(&options.topic))?;
        schema::check_counts(&path, &connection)?;

        let sqlite = |error| LogError::sqlite(&path, Some(&connection), error);
        let rows = CursorRow::load_all(&connection).map_err(sqlite)?;
        let next_position = connection
            .query_row("SELECT coalesce(max(position), 0) + 1 FROM events", [], |row| row.get(0))
            .map_err(sqlite)?;
        let topic_bits = contract::topic_bits(&options.topic);
        let window_ms = options.window_ms;
        let claims = HashMap::new();
        let files = LogFiles::of(&path, &inode)?;
        Ok(Self {
            connection,
            path,
            files,
            instance,
            _inode: inode,
            topic: options.topic.clone(),
            topic_bits,
            window_ms,
            next_position,
            rows,
            claims,
        })
    }

    /// A reader in the process that writes. [`LogReader::open`] must not be used there: it looks at the file
    /// itself, and closing any handle of a file ends all locks of the process on it, this log's among them.
    /// <https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>
    pub fn reader(&self) -> Result<LogReader, LogError> {
        let path = self.path.clone();
        let connection = schema::open(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(LogReader { connection, path, topic: self.topic.clone(), topic_bits: self.topic_bits })
    }

    /// What the log consists of, for somebody who looks whether it is still there while nothing is appended.
    #[must_use]
    pub fn files(&self) -> LogFiles {
        self.files.clone()
    }

    /// Which instance this is: the same for this file in this place for ever, and another for a copy of it.
    #[must_use]
    pub fn instance_id(&self) -> Uuid {
        self.instance.id
    }

    /// How far the log is with the partition; `None` if it has never seen it.
    pub fn cursor(&self, partition: i32) -> Result<Option<Cursor>, LogError> {
        Ok(self.rows.get(&partition).map(|row| row.cursor))
    }

    /// How far the log is with every partition that it has seen, in order.
    pub fn cursors(&self) -> Result<Vec<Cursor>, LogError> {
        Ok(self.rows.values().map(|row| row.cursor).collect())
    }

    /// What the log says of every command it decided in that range of offsets, in order of offset. All of it is
    /// in memory at once: ask for ranges of a size that fits.
    pub fn recorded(&self, partition: i32, offsets: Range<i64>) -> Result<Vec<Recorded>, LogError> {
        lookup::recorded(&self.connection, &self.path, self.topic_bits, partition, offsets)
    }

    /// The partition is taken up: from now on no partition is known to be put down in order, until it is again.
    /// Those that this process does not hold are others' meanwhile, who publish on.
    ///
    /// A gap begins where the log is, and moves it to its end. After an intervention, `accepted` is the offset up to which
    /// output counts as published from now on, whatever was seen before. All in one transaction.
    pub fn take_up(
        &mut self,
        partition: i32,
        gap: Option<Gap>,
        accepted: Option<i64>,
    ) -> Result<Cursor, LogError> {
        let mut row = self.row(partition);
        if let Some(gap) = &gap {
            let wrong = |what, found, wanted| Err(LogError::OutOfOrder { partition, what, found, wanted });
            if gap.first_offset != row.cursor.logged {
                let wanted = super::Wanted::Exactly(row.cursor.logged);
                return wrong("the first offset of the gap", gap.first_offset, wanted);
            }
            if gap.next_offset <= gap.first_offset {
                let wanted = super::Wanted::MoreThan(gap.first_offset);
                return wrong("the end of the gap", gap.next_offset, wanted);
            }
            row.cursor.logged = gap.next_offset;
        }
        if accepted.is_some() {
            row.cursor.published_seen = accepted;
        }
        let mut rows: BTreeMap<_, _> =
            self.rows.iter().filter(|(_, row)| row.cursor.clean).map(|(&other, &row)| (other, row)).collect();
        rows.insert(partition, row);
        rows.values_mut().for_each(|row| row.cursor.clean = false);
        self.change(|connection| {
            if let Some(gap) = &gap {
                let Gap { first_offset, next_offset, reason } = gap;
                let [partition, first_offset, next_offset] =
                    [partition.into(), *first_offset, *next_offset].map(ValueRef::Integer);
                let reason = ValueRef::Text(reason.as_bytes());
                let values = [partition, first_offset, next_offset, reason];
                checksum::insert_one(connection, &GAPS, &values)?;
            }
            rows.values().try_for_each(|row| row.store(connection))
        })?;
        self.rows.extend(rows);
        Ok(self.row(partition).cursor)
    }

    /// Records what a person overruled, before anything follows of it: output counts as published up to `accepted`. Where
    /// more was seen published, that is taken back, or the group's offset would look like a lost one.
    pub fn note_intervention(
        &mut self,
        partition: i32,
        intervention: &Intervention,
        accepted: i64,
    ) -> Result<(), LogError> {
        let Intervention { at, flag, details } = intervention;
        let mut row = self.rows.get(&partition).copied();
        row = row.filter(|row| row.cursor.published_seen.is_some_and(|seen| accepted < seen));
        if let Some(row) = &mut row {
            row.cursor.published_seen = Some(accepted);
        }
        self.change(|connection| {
            let id: i64 =
                connection
                    .query_row("SELECT coalesce(max(id), 0) + 1 FROM interventions", [], |row| row.get(0))?;
            let [id, partition, at] = [id, partition.into(), *at].map(ValueRef::Integer);
            let [flag, details] = [flag, details].map(|text| ValueRef::Text(text.as_bytes()));
            checksum::insert_one(connection, &INTERVENTIONS, &[id, partition, at, flag, details])?;
            row.iter().try_for_each(|row| row.store(connection))
        })?;
        self.rows.extend(row.map(|row| (partition, row)));
        Ok(())
    }

    /// Notes committed offsets of the group, where they are news.
    pub fn note_published(&mut self, published: &[(i32, i64)]) -> Result<(), LogError> {
        let mut rows = BTreeMap::new();
        for &(partition, offset) in published {
            let mut row = self.row(partition);
            row.note_published(offset);
            if self.rows.get(&partition) != Some(&row) {
                rows.insert(partition, row);
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.change(|connection| rows.values().try_for_each(|row| row.store(connection)))?;
        self.rows.extend(rows);
        Ok(())
    }

    /// A stop in order: these are the group's committed offsets, exactly, and nothing is under way.
    pub fn put_down(&mut self, published: &[(i32, i64)]) -> Result<(), LogError> {
        let mut rows = BTreeMap::new();
        for &(partition, offset) in published {
            let mut row = self.row(partition);
            row.cursor.published_seen = Some(offset);
            row.cursor.clean = true;
            rows.insert(partition, row);
        }
        self.change(|connection| rows.values().try_for_each(|row| row.store(connection)))?;
        for partition in rows.keys() {
            self.claims.remove(partition);
        }
        self.rows.extend(rows);
        Ok(())
    }

    /// The idempotency window, in milliseconds.
    #[must_use]
    pub fn window_ms(&self) -> i64 {
        self.window_ms
    }

    pub(super) fn row(&self, partition: i32) -> CursorRow {
        self.rows.get(&partition).copied().unwrap_or_else(|| CursorRow::new(partition))
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Tells a full disk from other I/O errors, by the connection's last error.
    pub(super) fn name_full_disk(&self, error: LogError) -> LogError {
        match error {
            LogError::Sqlite { path, source } => LogError::sqlite(&path, Some(&self.connection), source),
            other => other,
        }
    }

    fn change(&mut self, change: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<(), LogError> {
        let changed = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(
            |transaction| {
                change(&transaction)?;
                transaction.commit()
            },
        );
        changed.map_err(|error| LogError::sqlite(&self.path, Some(&self.connection), error))?;
        self.files.check()
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        if self.files.check().is_err() {
            // SQLite deletes the -wal file as it closes, by name: it can be that of another log by now.
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
    }
}

fn configure(connection: &Connection, options: &LogOptions) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", options.synchronous.pragma())?;
    // Negative: KiB instead of pages.
    let cache_kib = i64::try_from(options.cache_bytes / 1024).unwrap_or(i64::MAX).min(i32::MAX.into());
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT as i64)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    if let Some(pages) = options.max_pages {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    Ok(())
}

/// Bytes that must fit before commands are taken in again: a batch of usual size.
const ROOM: usize = 8 * 1024 * 1024;

impl EventLog {
    /// Whether a batch could be appended: writes as many bytes, and deletes them again. An error
    /// [`LogError::is_passing`] says that there is still no room, or that another program holds the write lock.
    pub fn check_room(&mut self) -> Result<(), LogError> {
        let room = vec![0; ROOM];
        self.change(|connection| {
            checksum::insert_one(connection, &META, &[ValueRef::Text(b"room"), ValueRef::Blob(&room)])
        })?;
        self.change(|connection| connection.execute("DELETE FROM meta WHERE name = 'room'", []).map(drop))
    }
}

#[cfg(any(test, feature = "testing"))]
impl EventLog {
    /// Gives the rows of a log file that a test has changed the checksums of what they hold now, and the cursors the
    /// count of claims.
    pub fn seal(connection: &Connection) {
        let count = "UPDATE cursors SET claims = \
                     (SELECT count(*) FROM claims AS c WHERE c.partition = cursors.partition)";
        connection.execute(count, []).expect("the tables of a log");
        checksum::seal(connection, |_| ()).expect("the tables of a log");
    }

    /// From now on the database can't grow, so that some append ends in its middle; or it can again.
    pub fn fill_disk(&mut self, full: bool) {
        // SQLite takes the present size where that is more.
        let pages: u32 = if full { 1 } else { u32::MAX - 1 };
        self.connection.pragma_update(None, "max_page_count", pages).expect("a pragma");
    }
}
