//! Reading a log while another process writes it.

use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};

use contract::{ActivityId, Coordinates};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::checksum::{EVENTS, checked};
use super::lookup::MISSING;
use super::scan::Scan;
use super::schema::{self, Presence};
use super::{DamagedRow, LogError, Recorded, check_writable, lookup};

/// Reads, and never writes or makes a log.
#[derive(Debug)]
pub struct LogReader {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) topic: String,
    pub(super) topic_bits: u16,
}

/// Which events to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// The object, `type/id` as in a notification's `ce_subject`; all events are looked through for it.
    pub object: Option<String>,
    /// Record timestamp in milliseconds since 1970, this one included.
    pub since: Option<i64>,
    /// Record timestamp in milliseconds since 1970, this one not included.
    pub until: Option<i64>,
    pub order: Order,
    pub limit: Option<u64>,
}

/// By position, which is the order in which the log got them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    OldestFirst,
    NewestFirst,
}

/// An event as it is listed. Its normal form is not parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Place in the log, from 1.
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
    /// Its row as one whose JSON can't be read.
    #[must_use]
    pub fn unreadable(&self, error: &serde_json::Error) -> DamagedRow {
        DamagedRow::event(self.position, format!("its JSON is unreadable: {error}"))
    }
}

/// What identifies the event at a position: its record's place, time and checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub coordinates: Coordinates,
    pub checksum: u32,
}

impl LogReader {
    /// Opens an existing log; the rows of one of schema version 1 have no checksums, so they can't be checked.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let log = Self::open_damaged(path)?;
        log.check_counts()?;
        Ok(log)
    }

    /// As [`open`](Self::open), also where the log's end or a cursor is damaged, to show what is left.
    pub fn open_damaged(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let path = path.as_ref();
        if schema::inspect(path)? == Presence::Missing {
            return Err(LogError::Missing { path: path.to_owned() });
        }
        Self::over(connect(path)?, path)
    }

    /// Over a connection to a file of that log's.
    pub(super) fn over(connection: Connection, path: &Path) -> Result<Self, LogError> {
        let (_, topic) = schema::examine(path, &connection, None)?;
        if !connection.is_readonly("main").map_err(|error| LogError::sqlite(path, None, error))? {
            let query_only = connection.pragma_update(None, "query_only", true);
            query_only.map_err(|error| LogError::sqlite(path, None, error))?;
        }
        let topic_bits = contract::topic_bits(&topic);
        Ok(Self { connection, path: path.to_owned(), topic, topic_bits })
    }

    /// Whether the log has as many events as its cursors count.
    pub fn check_counts(&self) -> Result<(), LogError> {
        schema::check_counts(&self.path, &self.connection)
    }

    /// The commands topic that the log belongs to.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What the log says of every command it decided in that range of offsets, in order of offset.
    pub fn recorded(&self, partition: i32, offsets: std::ops::Range<i64>) -> Result<Vec<Recorded>, LogError> {
        lookup::recorded(&self.connection, &self.path, self.topic_bits, partition, offsets)
    }

    /// Gives each event that the query wants to `each`, in order of position, until that breaks off, and, in its place,
    /// each row that is not as it was written. Events appended after the call began are not listed. All events
    /// are looked through.
    ///
    /// No read transaction is open while `each` runs: a slow one would keep SQLite from emptying the -wal file.
    pub fn list<E: From<LogError>>(
        &self,
        query: &ListQuery,
        mut each: impl FnMut(Result<Listed, DamagedRow>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let mut left = query.limit.unwrap_or(u64::MAX);
        self.scan(query, 1..=self.last_position()?, &mut left, &mut each).map(drop)
    }

    /// The position of the last event; 0 where there is none.
    pub fn last_position(&self) -> Result<i64, LogError> {
        self.connection
            .query_row("SELECT coalesce(max(position), 0) FROM events", [], |row| row.get(0))
            .map_err(|error| self.sqlite(error))
    }

    /// As [`list`](Self::list), between two positions, and at most as many as are `left` instead of the
    /// query's limit.
    pub fn scan<E: From<LogError>>(
        &self,
        query: &ListQuery,
        positions: RangeInclusive<i64>,
        left: &mut u64,
        each: &mut impl FnMut(Result<Listed, DamagedRow>) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, E> {
        let mut scan = Scan::new(positions, query.order);
        while *left > 0
            && let Some(gathered) = scan.gather(self, query, *left)?
        {
            for listed in gathered {
                *left -= u64::from(listed.is_ok());
                if each(listed)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// As [`scan`](Self::scan), of these positions only, in the order given.
    pub fn pick<E: From<LogError>>(
        &self,
        query: &ListQuery,
        positions: &[i64],
        left: &mut u64,
        each: &mut impl FnMut(Result<Listed, DamagedRow>) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, E> {
        for &position in positions {
            if *left == 0 {
                break;
            }
            if self.scan(query, position..=position, left, each)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Position, record timestamp, object type and object id of each event between two positions.
    pub fn objects(
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
                checked(row, &EVENTS)?;
                each(position, row.get(3)?, row.get_ref(5)?.as_str()?, row.get_ref(6)?.as_str()?);
            }
            Ok(())
        };
        read().map_err(|error| self.sqlite(error))
    }

    /// What identifies the event at that position; `None` where there is none.
    pub fn mark(&self, position: i64) -> Result<Option<Mark>, LogError> {
        let mark = |row: &Row<'_>| {
            checked(row, &EVENTS)?;
            let coordinates =
                Coordinates { partition: row.get(1)?, offset: row.get(2)?, timestamp: row.get(3)? };
            Ok(Mark { coordinates, checksum: row.get(4)? })
        };
        self.connection
            .prepare_cached(&format!("{} WHERE position = ?1", EVENTS.select))
            .and_then(|mut statement| statement.query_row([position], mark).optional())
            .map_err(|error| self.sqlite(error))
    }

    /// A row of table `events`.
    pub(super) fn listed(&self, row: &Row<'_>) -> rusqlite::Result<Listed> {
        let coordinates = Coordinates { partition: row.get(1)?, offset: row.get(2)?, timestamp: row.get(3)? };
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

    pub(super) fn sqlite(&self, error: rusqlite::Error) -> LogError {
        LogError::sqlite(&self.path, Some(&self.connection), error)
    }
}

/// A connection that leaves the files as they are: refused before SQLite opens it where it can be, and with
/// nothing left behind that a writer, who may be another user, could stumble over.
fn connect(path: &Path) -> Result<Connection, LogError> {
    if !schema::at_rest(path) {
        return schema::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    }
    let examined = schema::open_at_rest(path).and_then(|connection| schema::examine(path, &connection, None));
    match examined {
        Err(error) if schema::at_rest(path) => return Err(error),
        _ => {}
    }
    // A read-only connection cannot remove the -wal and -shm files that it makes; this one does at its end.
    let sqlite = |error| LogError::sqlite(path, None, error);
    let connection = schema::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if connection.is_readonly("main").map_err(sqlite)? || check_writable(path).is_err() {
        // Another user's, and nobody writes: not even those two files may be made.
        return if schema::at_rest(path) { schema::open_immutable(path) } else { Ok(connection) };
    }
    Ok(connection)
}
