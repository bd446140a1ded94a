//! Every row of the log as it stands there, for a checker that must not lean on how the log finds its rows.

use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::{OptionalExtension, params};

use super::lookup::{self, Batch};
use super::{LogError, LogReader, Recorded};
use crate::activity::Coordinates;

/// A row of table `events`, `duplicates` or `rejections`; nothing of it is parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub coordinates: Coordinates,
    pub checksum: u32,
    pub content: Content,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Event {
        position: i64,
        object_type: String,
        object_id: String,
        json: String,
        /// Whether the log finds the row by its offset.
        is_found: bool,
    },
    Duplicate {
        of_offset: i64,
        of_timestamp: i64,
    },
    Rejection {
        problems: String,
    },
}

/// Rows and bytes gathered at once.
const STRIDE: i64 = 4096;
const GATHER_BYTES: usize = 4 << 20;

/// Where the reading of a table begins or goes on: after this key.
type After = (i64, i64);

impl LogReader {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How far the log is with the partition at this moment; `None` if it has never seen it.
    pub fn logged(&self, partition: i32) -> Result<Option<i64>, LogError> {
        let cursors = super::cursor::CursorRow::load_all(&self.connection);
        let cursors = cursors.map_err(|error| self.sqlite(error))?;
        Ok(cursors.get(&partition).map(|row| row.cursor.logged))
    }

    /// What the log says of one command that did not become an event; `None` where it says nothing of the kind.
    pub fn refused(&self, partition: i32, offset: i64) -> Result<Option<Recorded>, LogError> {
        let mut recorded = Vec::new();
        let offsets = offset..offset + 1;
        lookup::refused(&self.connection, &self.path, self.topic_bits, partition, &offsets, &mut recorded)?;
        Ok(recorded.pop())
    }

    /// Gives every row to `each`, table by table, in the order of the table's own key, until that breaks off.
    /// Events appended after the call began are not given.
    ///
    /// No read transaction is open while `each` runs: a slow one would keep SQLite from emptying the -wal file.
    pub fn rows<E: From<LogError>>(
        &self,
        mut each: impl FnMut(Row) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let last: i64 = self
            .connection
            .query_row("SELECT coalesce(max(position), 0) FROM events", [], |row| row.get(0))
            .map_err(|error| self.sqlite(error))?;
        type Gather = fn(&LogReader, After, i64) -> rusqlite::Result<(Vec<Row>, Option<After>)>;
        let tables: [Gather; 3] = [Self::gather_events, Self::gather_duplicates, Self::gather_rejections];
        for gather in tables {
            let mut after = Some((i64::MIN, i64::MIN));
            while let Some(from) = after {
                let (rows, next) = gather(self, from, last).map_err(|error| self.sqlite(error))?;
                for row in rows {
                    if each(row)?.is_break() {
                        return Ok(());
                    }
                }
                after = next;
            }
        }
        Ok(())
    }

    fn gather_events(&self, after: After, last: i64) -> rusqlite::Result<(Vec<Row>, Option<After>)> {
        let mut statement = self.connection.prepare_cached(
            "SELECT position, partition, offset, timestamp, checksum, object_type, object_id, json FROM events \
             WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3",
        )?;
        let mut rows = statement.query(params![after.0, last, STRIDE])?;
        let (mut gathered, mut bytes, mut next) = (Vec::new(), 0, None);
        let (mut batch, mut before) = (None, None);
        while let Some(row) = rows.next()? {
            let position = row.get(0)?;
            let at = Coordinates { partition: row.get(1)?, offset: row.get(2)?, timestamp: row.get(3)? };
            let json: String = row.get(7)?;
            bytes += json.len();
            let is_found = self.is_found(&mut batch, before, position, at)?;
            before = Some((position, at.offset));
            let content =
                Content::Event { position, object_type: row.get(5)?, object_id: row.get(6)?, json, is_found };
            gathered.push(Row { coordinates: at, checksum: row.get(4)?, content });
            next = Some((position, 0));
            if bytes >= GATHER_BYTES {
                break;
            }
        }
        Ok((gathered, next))
    }

    /// Whether the event's offset leads to its position: the batch around the one holds the other, and offsets
    /// ascend within it. `around` is the batch of the event before, which nearly always is this one's too, and
    /// `before` the position and the offset of that event.
    fn is_found(
        &self,
        around: &mut Option<(i32, Batch)>,
        before: Option<(i64, i64)>,
        position: i64,
        at: Coordinates,
    ) -> rusqlite::Result<bool> {
        let known = around.filter(|(partition, batch)| *partition == at.partition && batch.spans(at.offset));
        let batch = match known {
            Some((_, batch)) => Some(batch),
            None => Batch::around(&self.connection, at.partition, at.offset)?,
        };
        *around = batch.map(|batch| (at.partition, batch));
        let Some(batch) = batch.filter(|batch| batch.holds(position)) else { return Ok(false) };
        if !batch.holds(position - 1) {
            return Ok(true);
        }
        let before = match before {
            Some((before, offset)) if before == position - 1 => Some(offset),
            _ => {
                let mut statement =
                    self.connection.prepare_cached("SELECT offset FROM events WHERE position = ?1")?;
                statement.query_row([position - 1], |row| row.get(0)).optional()?
            }
        };
        Ok(before.is_none_or(|before| before < at.offset))
    }

    fn gather_duplicates(&self, after: After, _: i64) -> rusqlite::Result<(Vec<Row>, Option<After>)> {
        self.gather(
            "SELECT partition, offset, timestamp, checksum, of_offset, of_timestamp FROM duplicates \
             WHERE (partition, offset) > (?1, ?2) ORDER BY partition, offset LIMIT ?3",
            after,
            |row| Ok((Content::Duplicate { of_offset: row.get(4)?, of_timestamp: row.get(5)? }, 0)),
        )
    }

    fn gather_rejections(&self, after: After, _: i64) -> rusqlite::Result<(Vec<Row>, Option<After>)> {
        self.gather(
            "SELECT partition, offset, timestamp, checksum, problems FROM rejections \
             WHERE (partition, offset) > (?1, ?2) ORDER BY partition, offset LIMIT ?3",
            after,
            |row| {
                let problems: String = row.get(4)?;
                let bytes = problems.len();
                Ok((Content::Rejection { problems }, bytes))
            },
        )
    }

    fn gather(
        &self,
        sql: &str,
        after: After,
        content: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<(Content, usize)>,
    ) -> rusqlite::Result<(Vec<Row>, Option<After>)> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![after.0, after.1, STRIDE])?;
        let (mut gathered, mut bytes, mut next) = (Vec::new(), 0, None);
        while let Some(row) = rows.next()? {
            let at = Coordinates { partition: row.get(0)?, offset: row.get(1)?, timestamp: row.get(2)? };
            let (content, size) = content(row)?;
            gathered.push(Row { coordinates: at, checksum: row.get(3)?, content });
            next = Some((at.partition.into(), at.offset));
            bytes += size;
            if bytes >= GATHER_BYTES {
                break;
            }
        }
        Ok((gathered, next))
    }
}
