//! Reads a log while another process may write it.

use std::ops::{ControlFlow, Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{ActivityId, Coordinates};
use rusqlite::{Connection, OpenFlags, Row, params};

use crate::appended::{Appended, AppendedObjects};
use crate::checksum::{DamagedRow, EVENTS, check_row, coordinates};
use crate::error::LogError;
use crate::lookup::{self, MISSING, Recorded};
use crate::preflight::check_writable;
use crate::scan::{Found, Scan};
use crate::schema::{self, Presence};

/// Neither writes nor creates a log.
#[derive(Debug)]
pub struct LogReader {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    pub(crate) topic: String,
    pub(crate) topic_bits: u16,
    /// The follower's, in the process that writes.
    pub(crate) appended: Option<Arc<Appended>>,
}

/// Which events to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// The object as `type/id`, like `ce_subject` in a notification. All events are searched for it.
    pub object: Option<String>,
    /// The first record timestamp, in milliseconds since 1970.
    pub since: Option<i64>,
    /// The record timestamp after the last one, in milliseconds since 1970.
    pub until: Option<i64>,
    pub order: Order,
    pub limit: Option<u64>,
}

impl ListQuery {
    /// Passes up to `limit` events, and the damaged rows before the last of them, to `each`.
    pub(crate) fn pass_on<E: From<LogError>>(
        &self,
        mut found: impl Iterator<Item = Result<Found, LogError>>,
        mut each: impl FnMut(Found) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let mut left = self.limit.unwrap_or(u64::MAX);
        while left > 0
            && let Some(found) = found.next().transpose()?
        {
            left -= u64::from(found.is_ok());
            if each(found)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The order of positions, in which the events were appended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    OldestFirst,
    NewestFirst,
}

/// An event; its JSON is not parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// From 1.
    pub position: i64,
    pub id: ActivityId,
    pub coordinates: Coordinates,
    /// CRC-32C of the record.
    pub checksum: u32,
    pub object_type: String,
    pub object_id: String,
    /// The entry in normal form.
    pub json: String,
}

impl Listed {
    /// The error for an event whose JSON can't be parsed.
    #[must_use]
    pub fn unreadable(&self, error: &serde_json::Error) -> DamagedRow {
        DamagedRow::event(self.position, format!("its JSON is unreadable: {error}"))
    }
}

/// Identifies the record of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordIdentity {
    pub(crate) coordinates: Coordinates,
    pub(crate) checksum: u32,
}

impl LogReader {
    pub(crate) fn new(connection: Connection, path: &Path, topic: String) -> Self {
        let topic_bits = contract::topic_bits(&topic);
        Self { connection, path: path.to_owned(), topic, topic_bits, appended: None }
    }

    /// Opens an existing log. The rows of schema version 1 have no checksums, so they can't be checked.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let log = Self::open_damaged(path)?;
        log.check_counts()?;
        Ok(log)
    }

    /// Like [`open`](Self::open), but also opens a log whose last events or cursors are damaged, to show the rest.
    pub fn open_damaged(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let path = path.as_ref();
        if schema::inspect(path)? == Presence::Missing {
            return Err(LogError::Missing { path: path.to_owned() });
        }
        Self::over(connect(path)?, path)
    }

    /// Reads another file than the log's, but names the log in its errors.
    pub(crate) fn over(connection: Connection, path: &Path) -> Result<Self, LogError> {
        let (_, topic) = schema::examine(path, &connection, None)?;
        let forbid_writes = || match connection.is_readonly("main")? {
            true => Ok(()),
            false => connection.pragma_update(None, "query_only", true),
        };
        forbid_writes().map_err(|error| LogError::sqlite(path, None, error))?;
        Ok(Self::new(connection, path, topic))
    }

    /// Returns an error unless the log has as many events as its cursors count.
    pub fn check_counts(&self) -> Result<(), LogError> {
        schema::check_counts(&self.path, &self.connection)
    }

    /// The commands topic that the log belongs to.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The decided commands in a range of offsets, in order of offset.
    pub fn recorded(&self, partition: i32, offsets: Range<i64>) -> Result<Vec<Recorded>, LogError> {
        lookup::recorded(&self.connection, self.topic_bits, partition, &offsets)
            .map_err(|error| self.sqlite(error))
    }

    /// Searches all events in order of position, and passes each that matches, and each damaged row, to `each`, until
    /// `each` breaks. Events that are appended during the call are left out.
    pub fn list<E: From<LogError>>(
        &self,
        query: &ListQuery,
        each: impl FnMut(Result<Listed, DamagedRow>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        query.pass_on(self.scan(query, 1..=self.last_position()?), each)
    }

    /// Searches a range of positions, without the query's limit.
    pub(crate) fn scan<'a>(&'a self, query: &'a ListQuery, positions: RangeInclusive<i64>) -> Scan<'a> {
        Scan::new(self, query, positions)
    }

    /// The position of the last event; 0 if there is none.
    pub fn last_position(&self) -> Result<i64, LogError> {
        lookup::last_position(&self.connection).map_err(|error| self.sqlite(error))
    }

    /// Passes position, record timestamp, object type and object id of each event in the range to `each`.
    pub(crate) fn objects(
        &self,
        positions: RangeInclusive<i64>,
        mut each: impl FnMut(i64, i64, &str, &str),
    ) -> Result<(), LogError> {
        let mut read = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare_cached(&format!(
                "{} WHERE position BETWEEN ?1 AND ?2 ORDER BY position",
                EVENTS.select
            ))?;
            let mut rows = statement.query(params![positions.start(), positions.end()])?;
            for position in positions.clone() {
                let row = rows.next()?.filter(|row| row.get(0) == Ok(position));
                let row = row.ok_or_else(|| DamagedRow::event(position, MISSING))?;
                check_row(row, &EVENTS)?;
                each(position, row.get(3)?, row.get_ref(5)?.as_str()?, row.get_ref(6)?.as_str()?);
            }
            Ok(())
        };
        read().map_err(|error| self.sqlite(error))
    }

    /// The objects of the append that begins at that position, if the writer has passed them on. Otherwise, the error is
    /// the position of a later one.
    pub(crate) fn take_appended(&self, position: i64) -> Result<AppendedObjects, Option<i64>> {
        self.appended.as_ref().map_or(Err(None), |appended| appended.take(position))
    }

    /// The record of the event at that position.
    pub(crate) fn record_at(&self, position: i64) -> Result<Option<RecordIdentity>, LogError> {
        let record = lookup::event_row(&self.connection, position, |row| {
            Ok(RecordIdentity { coordinates: coordinates(row, 1)?, checksum: row.get(4)? })
        });
        record.map_err(|error| self.sqlite(error))
    }

    pub(crate) fn event_at(&self, partition: i32, offset: i64) -> Result<Option<Listed>, LogError> {
        lookup::event_at(&self.connection, partition, offset, |row| self.listed(row))
            .map_err(|error| self.sqlite(error))
    }

    /// Reads a row of table `events`.
    pub(crate) fn listed(&self, row: &Row<'_>) -> rusqlite::Result<Listed> {
        let coordinates = coordinates(row, 1)?;
        Ok(Listed {
            position: row.get(0)?,
            id: ActivityId::new(self.topic_bits, coordinates),
            coordinates,
            checksum: row.get(4)?,
            object_type: row.get(5)?,
            object_id: row.get(6)?,
            json: row.get(7)?,
        })
    }

    pub(crate) fn sqlite(&self, error: rusqlite::Error) -> LogError {
        LogError::sqlite(&self.path, Some(&self.connection), error)
    }
}

/// Leaves the files as they are. Refuses what it can before SQLite opens the log, and leaves no files behind that a writer,
/// who may be another user, could not open.
fn connect(path: &Path) -> Result<Connection, LogError> {
    if !schema::at_rest(path) {
        return schema::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    }
    let examined = schema::open_at_rest(path).and_then(|connection| schema::examine(path, &connection, None));
    match examined {
        Err(error) if schema::at_rest(path) => return Err(error),
        _ => {}
    }
    // A read-only connection can't delete the -wal and -shm files that it creates. This one deletes them when it closes.
    let sqlite = |error| LogError::sqlite(path, None, error);
    let connection = schema::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if connection.is_readonly("main").map_err(sqlite)? || check_writable(path).is_err() {
        // The files belong to another user. If nobody writes, not even those two files may be created.
        return if schema::at_rest(path) { schema::open_immutable(path) } else { Ok(connection) };
    }
    Ok(connection)
}
