//! The only writer of a log.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use uuid::Uuid;

use crate::appended::Appended;
use crate::checksum::{self, GAPS, INTERVENTIONS, META};
use crate::claims::Claims;
use crate::cursor::{Cursor, CursorRow};
use crate::error::LogError;
use crate::files::{self, InodeLock, LogFiles};
use crate::instance::Instance;
use crate::lookup::{self, Recorded};
use crate::options::{LogOptions, Synchronous};
use crate::reader::LogReader;
use crate::schema::{self, Presence};
use crate::{check, preflight};

/// A checkpoint is due when the -wal file has this many bytes of pages that the database lacks. An append that arrives
/// meanwhile waits for it, so it must be short; the total cost is the same for 62 MiB.
const CHECKPOINT_BYTES: i64 = 8 << 20;

/// At this size, SQLite itself checkpoints at the end of an append, if there was no pause for it before. A disk that is slow for
/// a second or two leaves no pause, and a checkpoint would wait for it twice more, so this is a second or two of appends.
const WAL_BYTES: i64 = 64 << 20;

/// A checkpoint truncates the -wal file to this size after larger appends, or after a reader has delayed it.
pub(crate) const WAL_LIMIT: u64 = 124 << 20;

/// The only writer of a log. While it is open, no other process can open the log for writing.
#[derive(Debug)]
pub struct EventLog {
    pub(crate) connection: Connection,
    path: PathBuf,
    pub(crate) files: LogFiles,
    instance: Instance,
    /// Must be closed after the connection, see [`InodeLock`].
    _inode: InodeLock,
    topic: String,
    pub(crate) topic_bits: u16,
    pub(crate) synchronous: Synchronous,
    pub(crate) window_ms: i64,
    checkpoint_pages: i64,
    /// Positions are 1, 2, ... `next_position - 1`, without holes.
    pub(crate) next_position: i64,
    /// Table `cursors`, as committed.
    pub(crate) rows: BTreeMap<i32, CursorRow>,
    /// Loaded for a partition's first command with a key.
    pub(crate) claims: HashMap<i32, Claims>,
    /// Gets the objects of each append, if the read model follows.
    pub(crate) appended: Weak<Appended>,
}

/// Offsets `[first_offset, next_offset)` whose commands the log never received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub first_offset: i64,
    pub next_offset: i64,
    pub reason: String,
}

/// A person overruled a refusal to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervention {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The command line flag.
    pub flag: String,
    pub details: String,
}

impl EventLog {
    /// Opens the log for writing: creates it if it is missing, upgrades it if it is older, and locks it.
    ///
    /// Returns an error, and changes nothing, if the file is not a log, is damaged, is newer, belongs to another topic or
    /// is in use.
    pub fn open(options: &LogOptions) -> Result<Self, LogError> {
        let path = files::canonical(&options.path);
        // Before anything is created beside an existing file.
        let is_present = schema::inspect(&path)? == Presence::Log;
        preflight::check_writable(&path)?;
        let inode = is_present.then(|| InodeLock::take(&path)).transpose()?;
        preflight::examine_files(&path)?;
        let instance = Instance::take(&path)?;
        // Again: only now no other process can create it.
        let is_present = schema::inspect(&path)? == Presence::Log;
        if !is_present {
            schema::create(&path, &options.topic)?;
        }
        let inode = inode.map_or_else(|| InodeLock::take(&path), Ok)?;
        if is_present {
            examine(&path, &options.topic)?;
        }
        let connection = connect(&path, options)?;

        let sqlite = |error| LogError::sqlite(&path, Some(&connection), error);
        let rows = CursorRow::load(&connection).map_err(sqlite)?;
        let next_position = lookup::last_position(&connection).map_err(sqlite)? + 1;
        let page_bytes = page_bytes(&connection).map_err(sqlite)?;
        let files = LogFiles::of(&path, &inode)?;
        let mut log = Self {
            connection,
            path,
            files,
            instance,
            _inode: inode,
            topic: options.topic.clone(),
            topic_bits: contract::topic_bits(&options.topic),
            synchronous: options.synchronous,
            window_ms: options.window_ms,
            checkpoint_pages: CHECKPOINT_BYTES / page_bytes,
            next_position,
            rows,
            claims: HashMap::new(),
            appended: Weak::new(),
        };
        if log.instance.is_new {
            log.forget_clean_stops()?;
            log.instance.record(&log.path)?;
        }
        Ok(log)
    }

    /// A reader for the process that writes. Do not use [`LogReader::open`] there: it opens the file itself, and closing
    /// any handle of a file releases all locks that the process has on it, including this log's.
    /// <https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>
    pub fn reader(&self) -> Result<LogReader, LogError> {
        let connection = schema::open(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(LogReader::new(connection, &self.path, self.topic.clone()))
    }

    /// A [`reader`](Self::reader) for the read model's follower. It gets the objects of all further appends from this log,
    /// unless there is a later one.
    pub fn reader_for_follower(&mut self) -> Result<LogReader, LogError> {
        let appended = Arc::new(Appended::default());
        self.appended = Arc::downgrade(&appended);
        Ok(LogReader { appended: Some(appended), ..self.reader()? })
    }

    /// The log's files, to check that they are still in place while nothing is appended.
    #[must_use]
    pub fn files(&self) -> LogFiles {
        self.files.clone()
    }

    /// Stays the same for this file at this path. A copy gets another one.
    #[must_use]
    pub fn instance_id(&self) -> Uuid {
        self.instance.id
    }

    /// `None` if the log has never started the partition.
    pub fn cursor(&self, partition: i32) -> Result<Option<Cursor>, LogError> {
        Ok(self.rows.get(&partition).map(|row| row.cursor))
    }

    /// In order of partition.
    pub fn cursors(&self) -> Result<Vec<Cursor>, LogError> {
        Ok(self.rows.values().map(|row| row.cursor).collect())
    }

    /// The decided commands in a range of offsets, in order of offset. All are in memory at once, so choose the range
    /// accordingly.
    pub fn recorded(&self, partition: i32, offsets: Range<i64>) -> Result<Vec<Recorded>, LogError> {
        lookup::recorded(&self.connection, self.topic_bits, partition, &offsets)
            .map_err(|error| self.sqlite(error))
    }

    /// Records that the partition starts. This clears `clean` of all partitions, since other processes publish for those
    /// that this process does not hold.
    ///
    /// A gap must start at `logged`, and moves it to the gap's end. `published`, if known, replaces `published_seen`, which
    /// only an intervention lowers.
    pub fn start_partition(
        &mut self,
        partition: i32,
        gap: Option<Gap>,
        published: Option<i64>,
    ) -> Result<Cursor, LogError> {
        let mut row = self.row(partition);
        if let Some(Gap { first_offset, next_offset, .. }) = gap {
            let wrong = |what, found, wanted| Err(LogError::OutOfOrder { partition, what, found, wanted });
            if first_offset != row.cursor.logged {
                let wanted = row.cursor.logged.to_string();
                return wrong("the first offset of the gap", first_offset, wanted);
            }
            if next_offset <= first_offset {
                return wrong("the end of the gap", next_offset, format!("more than {first_offset}"));
            }
            row.cursor.logged = next_offset;
        }
        row.cursor.published_seen = published.or(row.cursor.published_seen);
        row.cursor.clean = false;
        let mut rows = self.without_clean_stops();
        rows.insert(partition, row);
        self.change(rows, |connection| {
            let Some(Gap { first_offset, next_offset, reason }) = gap else { return Ok(()) };
            let [partition, first_offset, next_offset] =
                [partition.into(), first_offset, next_offset].map(ValueRef::Integer);
            let reason = ValueRef::Text(reason.as_bytes());
            checksum::insert_one(connection, &GAPS, &[partition, first_offset, next_offset, reason])
        })?;
        Ok(self.row(partition).cursor)
    }

    /// Records an intervention, before it takes effect. It lowers `published_seen` to `accepted`: otherwise the offset
    /// that it leads to would look as if the group had lost its offset.
    pub fn record_intervention(
        &mut self,
        partition: i32,
        intervention: &Intervention,
        accepted: i64,
    ) -> Result<(), LogError> {
        let Intervention { at, flag, details } = intervention;
        let mut rows = BTreeMap::new();
        if let Some(mut row) = self.rows.get(&partition).copied()
            && row.cursor.published_seen.is_some_and(|seen| accepted < seen)
        {
            row.cursor.published_seen = Some(accepted);
            rows.insert(partition, row);
        }
        self.change(rows, |connection| {
            let next_id = "SELECT coalesce(max(id), 0) + 1 FROM interventions";
            let id: i64 = connection.query_row(next_id, [], |row| row.get(0))?;
            let [id, partition, at] = [id, partition.into(), *at].map(ValueRef::Integer);
            let [flag, details] = [flag, details].map(|text| ValueRef::Text(text.as_bytes()));
            checksum::insert_one(connection, &INTERVENTIONS, &[id, partition, at, flag, details])
        })
    }

    /// Forgets the idempotency keys of partitions that are another instance's now. The next append with a key loads them.
    pub fn forget_claims(&mut self, partitions: &[i32]) {
        self.claims.retain(|partition, _| !partitions.contains(partition));
    }

    /// Raises `published_seen` to committed offsets of the group.
    pub fn record_published(&mut self, published: &[(i32, i64)]) -> Result<(), LogError> {
        let mut rows = BTreeMap::new();
        for &(partition, offset) in published {
            let mut row = self.row(partition);
            row.raise_published_seen(offset);
            if self.rows.get(&partition) != Some(&row) {
                rows.insert(partition, row);
            }
        }
        if rows.is_empty() { Ok(()) } else { self.change(rows, |_| Ok(())) }
    }

    /// Records a clean stop: the group's committed offsets are exactly these, and nothing is in flight.
    pub fn record_clean_stop(&mut self, published: &[(i32, i64)]) -> Result<(), LogError> {
        let rows = published.iter().map(|&(partition, offset)| {
            let mut row = self.row(partition);
            row.cursor.published_seen = Some(offset);
            row.cursor.clean = true;
            (partition, row)
        });
        self.change(rows.collect(), |_| Ok(()))?;
        for (partition, _) in published {
            self.claims.remove(partition);
        }
        Ok(())
    }

    /// Clears `clean` of all partitions: a new instance's log may be a copy of another one, whose instance has published
    /// more since.
    fn forget_clean_stops(&mut self) -> Result<(), LogError> {
        // Power loss must not undo this once the instance's id is on the disk.
        self.synchronize(Synchronous::Full)?;
        self.change(self.without_clean_stops(), |_| Ok(()))?;
        self.synchronize(self.synchronous)
    }

    /// The rows of the partitions that are `clean`, with that cleared.
    fn without_clean_stops(&self) -> BTreeMap<i32, CursorRow> {
        let clean = self.rows.iter().filter(|(_, row)| row.cursor.clean);
        let cleared = |row: CursorRow| CursorRow { cursor: Cursor { clean: false, ..row.cursor }, ..row };
        clean.map(|(&partition, &row)| (partition, cleared(row))).collect()
    }

    /// The idempotency window, in milliseconds.
    #[must_use]
    pub fn window_ms(&self) -> i64 {
        self.window_ms
    }

    /// Checks that there is room for a batch: writes as many bytes and deletes them. If there is none, or another program
    /// holds the write lock, the error is [transient](LogError::is_transient).
    pub fn check_room(&mut self) -> Result<(), LogError> {
        let room = vec![0; USUAL_BATCH_BYTES];
        self.change(BTreeMap::new(), |connection| {
            checksum::insert_one(connection, &META, &[ValueRef::Text(b"room"), ValueRef::Blob(&room)])
        })?;
        self.change(BTreeMap::new(), |connection| {
            connection.execute("DELETE FROM meta WHERE name = 'room'", []).map(drop)
        })
    }

    /// Checkpoints if that is due. Call it when no append is waiting.
    pub fn checkpoint_if_due(&self) {
        let checkpoint = |mode: &str| {
            let mut pragma = self.connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
            // Pages in the -wal file, and how many of them the database has.
            pragma.query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
        };
        let checkpointed = checkpoint("NOOP").and_then(|missing| match missing >= self.checkpoint_pages {
            true => checkpoint("PASSIVE"),
            false => Ok(missing),
        });
        // The pages stay in the -wal file. SQLite ignores the failure of its own checkpoints too.
        if let Err(error) = checkpointed {
            tracing::debug!(path = %self.path.display(), %error, "cannot checkpoint the log");
        }
    }

    /// What the changes after this survive.
    pub(crate) fn synchronize(&self, synchronous: Synchronous) -> Result<(), LogError> {
        let set = self.connection.pragma_update(None, "synchronous", synchronous.pragma());
        set.map_err(|error| self.sqlite(error))
    }

    pub(crate) fn row(&self, partition: i32) -> CursorRow {
        self.rows.get(&partition).copied().unwrap_or_else(|| CursorRow::new(partition))
    }

    fn sqlite(&self, error: rusqlite::Error) -> LogError {
        LogError::sqlite(&self.path, Some(&self.connection), error)
    }

    /// Stores the cursors in the transaction of `change`.
    fn change(
        &mut self,
        rows: BTreeMap<i32, CursorRow>,
        change: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), LogError> {
        self.transact(|connection| {
            change(connection)?;
            rows.values().try_for_each(|row| row.store(connection))
        })?;
        self.rows.extend(rows);
        self.files.check()
    }

    pub(crate) fn transact<T>(
        &mut self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LogError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let committed = transaction.and_then(|transaction| {
            let changed = change(&transaction)?;
            transaction.commit()?;
            Ok(changed)
        });
        committed.map_err(|error| self.sqlite(error))
    }
}

/// A batch of usual size fits into this.
const USUAL_BATCH_BYTES: usize = 8 * 1024 * 1024;

impl Drop for EventLog {
    fn drop(&mut self) {
        if self.files.check().is_err() {
            // SQLite deletes the -wal file by name when it closes. The name may belong to another log by now.
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
    }
}

/// Returns an error if an existing log can't be opened, before anything is written to it.
fn examine(path: &Path, topic: &str) -> Result<(), LogError> {
    if let Some(found) = check::wal_damage(path)? {
        tracing::warn!(path = %path.display(), "{found}");
    }
    let connection = schema::open_at_rest(path)?;
    let (version, topic) = schema::examine(path, &connection, Some(topic))?;
    schema::check_counts(path, &connection)?;
    if version < schema::VERSION {
        check::refuse_findings(&LogReader::new(connection, path, topic))?;
    }
    Ok(())
}

fn connect(path: &Path, options: &LogOptions) -> Result<Connection, LogError> {
    let mut connection = schema::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    configure(&connection, options).map_err(|error| LogError::sqlite(path, Some(&connection), error))?;
    schema::upgrade(path, &mut connection)?;
    schema::examine(path, &connection, Some(&options.topic))?;
    schema::check_counts(path, &connection)?;
    Ok(connection)
}

fn configure(connection: &Connection, options: &LogOptions) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", options.synchronous.pragma())?;
    // Negative: KiB instead of pages.
    let cache_kib = i64::try_from(options.cache_bytes / 1024).unwrap_or(i64::MAX).min(i32::MAX.into());
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_BYTES / page_bytes(connection)?)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT as i64)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    if let Some(pages) = options.max_pages {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    Ok(())
}

fn page_bytes(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "page_size", |row| row.get(0))
}

#[cfg(any(test, feature = "testing"))]
impl EventLog {
    /// Updates what depends on rows that a test changed: their checksums, and the cursors' counts of claim groups.
    pub fn update_checksums(connection: &Connection) {
        let count = "UPDATE cursors SET claims = \
                     (SELECT count(*) FROM claim_groups AS c WHERE c.id >> 48 = cursors.partition)";
        connection.execute(count, []).expect("the tables of a log");
        checksum::update_checksums(connection, |_| ()).expect("the tables of a log");
    }

    /// If `full`, the database can't grow, so some append fails in its middle.
    pub fn fill_disk(&mut self, full: bool) {
        // SQLite uses the present size if that is larger.
        let pages: u32 = if full { 1 } else { u32::MAX - 1 };
        self.connection.pragma_update(None, "max_page_count", pages).expect("a pragma");
    }
}
