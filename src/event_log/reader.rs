//! Reading a log while another process writes it.

use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::schema::{self, Presence, VERSION};
use super::{LogError, Recorded, lookup};
use crate::activity::{ActivityId, Coordinates};

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
    pub object_type: String,
    pub object_id: String,
    /// The entry in normal form.
    pub json: String,
}

/// What identifies the event at a position: its record's place, time and checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub coordinates: Coordinates,
    pub checksum: u32,
}

/// Positions looked through at once, and bytes gathered at once.
const STRIDE: i64 = 4096;
const GATHER_BYTES: usize = 4 << 20;

macro_rules! select_events {
    ($order:literal) => {
        concat!(
            "SELECT position, partition, offset, timestamp, object_type, object_id, json FROM events \
             WHERE position BETWEEN ?1 AND ?2 AND (?3 IS NULL OR timestamp >= ?3) \
             AND (?4 IS NULL OR timestamp < ?4) AND (?5 IS NULL OR object_type || '/' || object_id = ?5) \
             ORDER BY position ",
            $order
        )
    };
}

impl LogReader {
    /// Opens an existing log of the schema version that this program writes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let path = path.as_ref();
        if schema::inspect(path)? == Presence::Missing {
            return Err(LogError::Missing { path: path.to_owned() });
        }
        let connection = connect(path)?;
        let (version, topic) = schema::examine(path, &connection, None)?;
        if version < VERSION {
            return Err(LogError::OlderSchema { path: path.to_owned(), found: version, known: VERSION });
        }
        let topic_bits = crate::activity::topic_bits(&topic);
        Ok(Self { connection, path: path.to_owned(), topic, topic_bits })
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

    /// Gives each event that the query wants to `each`, in order of position, until that breaks off. Events
    /// appended after the call began are not listed. All events are looked through.
    ///
    /// No read transaction is open while `each` runs: a slow one would keep SQLite from emptying the -wal file.
    pub fn list<E: From<LogError>>(
        &self,
        query: &ListQuery,
        mut each: impl FnMut(Listed) -> Result<ControlFlow<()>, E>,
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
        each: &mut impl FnMut(Listed) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, E> {
        // Positions still to be looked through: [from, to].
        let (mut from, mut to) = positions.into_inner();
        while from <= to && *left > 0 {
            let (low, high) = match query.order {
                Order::OldestFirst => (from, to.min(from + STRIDE - 1)),
                Order::NewestFirst => (from.max(to - STRIDE + 1), to),
            };
            let (gathered, cut_at) =
                self.gather_listed(query, low, high, *left).map_err(|error| self.sqlite(error))?;
            match query.order {
                Order::OldestFirst => from = cut_at.unwrap_or(high) + 1,
                Order::NewestFirst => to = cut_at.unwrap_or(low) - 1,
            }
            for listed in gathered {
                *left -= 1;
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
        each: &mut impl FnMut(Listed) -> Result<ControlFlow<()>, E>,
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
        let (from, to) = positions.into_inner();
        let mut read = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare_cached(
                "SELECT position, timestamp, object_type, object_id FROM events \
                 WHERE position BETWEEN ?1 AND ?2 ORDER BY position",
            )?;
            let mut rows = statement.query(params![from, to])?;
            while let Some(row) = rows.next()? {
                each(row.get(0)?, row.get(1)?, row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?);
            }
            Ok(())
        };
        read().map_err(|error| self.sqlite(error))
    }

    /// What identifies the event at that position; `None` where there is none.
    pub fn mark(&self, position: i64) -> Result<Option<Mark>, LogError> {
        let mark = |row: &Row<'_>| {
            let coordinates =
                Coordinates { partition: row.get(0)?, offset: row.get(1)?, timestamp: row.get(2)? };
            Ok(Mark { coordinates, checksum: row.get(3)? })
        };
        self.connection
            .prepare_cached("SELECT partition, offset, timestamp, checksum FROM events WHERE position = ?1")
            .and_then(|mut statement| statement.query_row([position], mark).optional())
            .map_err(|error| self.sqlite(error))
    }

    /// Events of a range of positions, and the position after which it stopped early.
    fn gather_listed(
        &self,
        query: &ListQuery,
        low: i64,
        high: i64,
        limit: u64,
    ) -> rusqlite::Result<(Vec<Listed>, Option<i64>)> {
        let mut statement = self.connection.prepare_cached(match query.order {
            Order::OldestFirst => select_events!("ASC"),
            Order::NewestFirst => select_events!("DESC"),
        })?;
        let mut rows = statement.query(params![low, high, query.since, query.until, query.object])?;
        let (mut gathered, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let position = row.get(0)?;
            let coordinates =
                Coordinates { partition: row.get(1)?, offset: row.get(2)?, timestamp: row.get(3)? };
            let listed = Listed {
                position,
                id: ActivityId::new(self.topic_bits, coordinates),
                coordinates,
                object_type: row.get(4)?,
                object_id: row.get(5)?,
                json: row.get(6)?,
            };
            bytes += listed.json.len();
            gathered.push(listed);
            if bytes >= GATHER_BYTES || gathered.len() as u64 >= limit {
                return Ok((gathered, Some(position)));
            }
        }
        Ok((gathered, None))
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
    match schema::examine_at_rest(path, None) {
        Err(error) if schema::at_rest(path) => return Err(error),
        _ => {}
    }
    // A read-only connection cannot remove the -wal and -shm files that it makes; this one does at its end.
    let sqlite = |error| LogError::sqlite(path, None, error);
    let connection = schema::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if connection.is_readonly("main").map_err(sqlite)? {
        // Another user's, and nobody writes: not even those two files may be made.
        return if schema::at_rest(path) { schema::open_immutable(path) } else { Ok(connection) };
    }
    connection.pragma_update(None, "query_only", true).map_err(sqlite)?;
    Ok(connection)
}
