//! All rows of the log for a checker, which must not depend on how the log finds its rows.

use std::ops::ControlFlow;
use std::path::Path;

use contract::Coordinates;
use rusqlite::OptionalExtension;

use crate::checksum::{DUPLICATES, DamagedRow, EVENTS, REJECTIONS, Table, Walk, check_row, coordinates};
use crate::cursor::CursorRow;
use crate::error::LogError;
use crate::lookup::{self, Batch, Recorded};
use crate::reader::LogReader;

/// A row of table `events`, `duplicates` or `rejections`, not parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub coordinates: Coordinates,
    pub checksum: u32,
    pub content: Content,
}

/// The columns that the three tables do not share.
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

impl Content {
    fn bytes(&self) -> usize {
        match self {
            Self::Event { json, .. } => json.len(),
            Self::Duplicate { .. } => 0,
            Self::Rejection { problems } => problems.len(),
        }
    }
}

/// At most this much, and one row, is in memory at once.
const GATHER_BYTES: usize = 4 << 20;

impl LogReader {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The partition's next offset to append; `None` if the log has never started it.
    pub fn logged(&self, partition: i32) -> Result<Option<i64>, LogError> {
        let cursors = CursorRow::load(&self.connection).map_err(|error| self.sqlite(error))?;
        Ok(cursors.get(&partition).map(|row| row.cursor.logged))
    }

    /// The duplicate or rejection at that offset.
    pub fn refused(&self, partition: i32, offset: i64) -> Result<Option<Recorded>, LogError> {
        let offsets = offset..offset.saturating_add(1);
        let refused = lookup::refused(&self.connection, self.topic_bits, partition, &offsets);
        Ok(refused.map_err(|error| self.sqlite(error))?.pop())
    }

    /// Passes every row, or its damage, to `each`, table by table in the order of its primary key, until `each` breaks.
    /// Events that are appended during the call are left out.
    ///
    /// No read transaction is open while `each` runs: if it is slow, SQLite could not checkpoint.
    pub fn rows<E: From<LogError>>(
        &self,
        mut each: impl FnMut(Result<Row, DamagedRow>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let last = self.last_position()?;
        let mut finder = Finder::default();
        for table in [&EVENTS, &DUPLICATES, &REJECTIONS] {
            let mut walk = Walk::new(table);
            let mut more = true;
            while more {
                let (mut gathered, mut bytes, mut is_after_last) = (Vec::new(), 0, false);
                let walked = walk.next(&self.connection, |row| {
                    is_after_last = table.name == EVENTS.name && row.get::<_, i64>(0)? > last;
                    if is_after_last {
                        return Ok(ControlFlow::Break(()));
                    }
                    let read = check_row(row, table).and_then(|()| self.row(table, row, &mut finder));
                    gathered.push(match read {
                        Ok(row) => {
                            bytes += row.content.bytes();
                            Ok(row)
                        }
                        Err(error) => Err(DamagedRow::from_error(error, table, row)?),
                    });
                    Ok(if bytes < GATHER_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
                });
                more = walked.map_err(|error| self.sqlite(error))? && !is_after_last;
                for row in gathered {
                    if each(row)?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn row(&self, table: &Table, row: &rusqlite::Row<'_>, finder: &mut Finder) -> rusqlite::Result<Row> {
        // Table `events` has the column `position` before the others.
        let first = table.columns.iter().position(|column| *column == "partition").unwrap_or(0);
        let at = coordinates(row, first)?;
        let content = match table.name {
            "events" => {
                let position = row.get(0)?;
                let is_found = finder.finds(self, position, at)?;
                let (object_type, object_id, json) = (row.get(5)?, row.get(6)?, row.get(7)?);
                Content::Event { position, object_type, object_id, json, is_found }
            }
            "duplicates" => Content::Duplicate { of_offset: row.get(4)?, of_timestamp: row.get(5)? },
            _ => Content::Rejection { problems: row.get(4)? },
        };
        Ok(Row { coordinates: at, checksum: row.get(first + 3)?, content })
    }
}

/// Tells whether the log finds an event by its offset.
#[derive(Default)]
struct Finder {
    /// The batch of the event before, with its partition. It is nearly always the next event's batch too.
    batch: Option<(i32, Batch)>,
    /// Position and offset of the event before.
    before: Option<(i64, i64)>,
}

impl Finder {
    /// Whether the batch around the offset contains the position, and offsets ascend within it.
    fn finds(&mut self, log: &LogReader, position: i64, at: Coordinates) -> rusqlite::Result<bool> {
        let before = self.before.replace((position, at.offset));
        let is_around =
            |(partition, batch): &(i32, Batch)| *partition == at.partition && batch.spans(at.offset);
        if !self.batch.as_ref().is_some_and(is_around) {
            let batch = match Batch::around(&log.connection, at.partition, at.offset) {
                // A damaged row of table `batches` leads nowhere.
                Err(rusqlite::Error::FromSqlConversionFailure(..)) => None,
                batch => batch?,
            };
            self.batch = batch.map(|batch| (at.partition, batch));
        }
        let Some((_, batch)) = self.batch.filter(|(_, batch)| batch.holds(position)) else {
            return Ok(false);
        };
        if position <= batch.first_position {
            return Ok(true);
        }
        let before = match before {
            Some((before, offset)) if before == position - 1 => Some(offset),
            _ => {
                let select = "SELECT offset FROM events WHERE position = ?1";
                let mut statement = log.connection.prepare_cached(select)?;
                statement.query_row([position - 1], |row| row.get(0)).optional()?
            }
        };
        Ok(before.is_none_or(|before| before < at.offset))
    }
}
