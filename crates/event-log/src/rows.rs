//! Every row of the log as it stands there, for a checker that must not lean on how the log finds its rows.

use std::ops::ControlFlow;
use std::path::Path;

use contract::Coordinates;
use rusqlite::{OptionalExtension, params};

use super::checksum::{DUPLICATES, EVENTS, REJECTIONS, Table, checked};
use super::lookup::{self, Batch};
use super::{DamagedRow, LogError, LogReader, Recorded};

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

type Gathered = Vec<Result<Row, DamagedRow>>;

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
        let offsets = offset..offset.saturating_add(1);
        lookup::refused(&self.connection, &self.path, self.topic_bits, partition, &offsets, &mut recorded)?;
        Ok(recorded.pop())
    }

    /// Gives every row to `each`, table by table, in the order of the table's own key, until that breaks off, or what is
    /// wrong with it where it is not as it was written. Events appended after the call began are not given.
    ///
    /// No read transaction is open while `each` runs: a slow one would keep SQLite from emptying the -wal file.
    pub fn rows<E: From<LogError>>(
        &self,
        mut each: impl FnMut(Result<Row, DamagedRow>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let last: i64 = self
            .connection
            .query_row("SELECT coalesce(max(position), 0) FROM events", [], |row| row.get(0))
            .map_err(|error| self.sqlite(error))?;
        type Gather = fn(&LogReader, After, i64) -> rusqlite::Result<(Gathered, Option<After>)>;
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

    fn gather_events(&self, after: After, last: i64) -> rusqlite::Result<(Gathered, Option<After>)> {
        let mut statement = self.connection.prepare_cached(&format!(
            "{} WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3",
            EVENTS.select
        ))?;
        let (mut batch, mut before) = (None, None);
        gather(statement.query(params![after.0, last, STRIDE])?, &EVENTS, |row| {
            let position = row.get(0)?;
            let at = Coordinates { partition: row.get(1)?, offset: row.get(2)?, timestamp: row.get(3)? };
            let json: String = row.get(7)?;
            let bytes = json.len();
            let is_found = self.is_found(&mut batch, before, position, at)?;
            before = Some((position, at.offset));
            let content =
                Content::Event { position, object_type: row.get(5)?, object_id: row.get(6)?, json, is_found };
            Ok((Row { coordinates: at, checksum: row.get(4)?, content }, bytes))
        })
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
            None => match Batch::around(&self.connection, at.partition, at.offset) {
                // A damaged one leads nowhere.
                Err(rusqlite::Error::FromSqlConversionFailure(..)) => None,
                batch => batch?,
            },
        };
        *around = batch.map(|batch| (at.partition, batch));
        let Some(batch) = batch.filter(|batch| batch.holds(position)) else { return Ok(false) };
        if position <= batch.first_position {
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

    fn gather_duplicates(&self, after: After, _: i64) -> rusqlite::Result<(Gathered, Option<After>)> {
        self.gather_refused(&DUPLICATES, after, |row| {
            Ok((Content::Duplicate { of_offset: row.get(4)?, of_timestamp: row.get(5)? }, 0))
        })
    }

    fn gather_rejections(&self, after: After, _: i64) -> rusqlite::Result<(Gathered, Option<After>)> {
        self.gather_refused(&REJECTIONS, after, |row| {
            let problems: String = row.get(4)?;
            let bytes = problems.len();
            Ok((Content::Rejection { problems }, bytes))
        })
    }

    fn gather_refused(
        &self,
        table: &Table,
        after: After,
        content: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<(Content, usize)>,
    ) -> rusqlite::Result<(Gathered, Option<After>)> {
        let mut statement = self.connection.prepare_cached(&format!(
            "{} WHERE (partition, offset) > (?1, ?2) ORDER BY partition, offset LIMIT ?3",
            table.select
        ))?;
        gather(statement.query(params![after.0, after.1, STRIDE])?, table, |row| {
            let at = Coordinates { partition: row.get(0)?, offset: row.get(1)?, timestamp: row.get(2)? };
            let (content, bytes) = content(row)?;
            Ok((Row { coordinates: at, checksum: row.get(3)?, content }, bytes))
        })
    }
}

/// Rows up to a limit of bytes, which `read` tells of each, and the key after which the next ones come.
fn gather(
    mut rows: rusqlite::Rows<'_>,
    table: &Table,
    mut read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<(Row, usize)>,
) -> rusqlite::Result<(Gathered, Option<After>)> {
    let (mut gathered, mut bytes, mut next) = (Vec::new(), 0, None);
    while bytes < GATHER_BYTES
        && let Some(row) = rows.next()?
    {
        next = Some((row.get(0)?, if table.key == 2 { row.get(1)? } else { 0 }));
        gathered.push(match checked(row, table).and_then(|()| read(row)) {
            Ok((row, size)) => {
                bytes += size;
                Ok(row)
            }
            Err(error) => Err(DamagedRow::of(error, table, row)?),
        });
    }
    Ok((gathered, next))
}
