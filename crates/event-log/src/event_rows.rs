//! Inserts events, several rows with a statement.

use std::sync::LazyLock;

use contract::Event;
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection};

use crate::append::record_values;
use crate::checksum::{DamagedRow, EVENTS, RowChecksum, bind};

/// Rows of the longer statement. Twice as many save another two percent of the instructions.
const ROWS: usize = 8;

/// The parameters of a row, besides the partition.
const PARAMETERS: usize = 7;

static INSERT_ONE: LazyLock<String> = LazyLock::new(|| insert(1));
static INSERT_ROWS: LazyLock<String> = LazyLock::new(|| insert(ROWS));

/// An `INSERT` of that many events of one partition, which is the first parameter. SQLite assigns the positions, each one
/// more than the last: if they were parameters, it would search the table for each. With `OR FAIL`, SQLite keeps no journal
/// to undo the statement alone: whatever fails, the transaction is rolled back.
fn insert(rows: usize) -> String {
    let columns = EVENTS.columns[1..].join(", ");
    let row = format!("(?1{})", ", ?".repeat(PARAMETERS));
    format!("INSERT OR FAIL INTO events ({columns}, row_checksum) VALUES {}", vec![row; rows].join(", "))
}

pub(crate) struct EventRows<'a> {
    connection: &'a Connection,
    one: CachedStatement<'a>,
    rows: CachedStatement<'a>,
}

impl<'a> EventRows<'a> {
    pub(crate) fn prepare(connection: &'a Connection) -> rusqlite::Result<Self> {
        let one = connection.prepare_cached(&INSERT_ONE)?;
        Ok(Self { connection, one, rows: connection.prepare_cached(&INSERT_ROWS)? })
    }

    /// Inserts events of one partition, each with the checksum of its record, from `first_position` on, and calls
    /// `inserted` with each. Returns an error if another program has changed the log's last position.
    pub(crate) fn insert(
        &mut self,
        first_position: i64,
        events: &[(&Event, u32)],
        mut inserted: impl FnMut(&Event),
    ) -> rusqlite::Result<()> {
        let mut position = first_position;
        let (chunks, rest) = events.as_chunks::<ROWS>();
        for rows in chunks.iter().map(|chunk| &chunk[..]).chain(rest.chunks(1)) {
            let statement = if rows.len() == ROWS { &mut self.rows } else { &mut self.one };
            execute(statement, &mut position, rows)?;
            rows.iter().for_each(|(event, _)| inserted(event));
        }
        let last = self.connection.last_insert_rowid();
        if last != position - 1 {
            let found =
                format!("appended instead of position {}: another program changed the log", position - 1);
            return Err(DamagedRow::event(last, found).into());
        }
        Ok(())
    }
}

fn execute(
    statement: &mut CachedStatement<'_>,
    position: &mut i64,
    rows: &[(&Event, u32)],
) -> rusqlite::Result<()> {
    for (first, &(event, checksum)) in (2..).step_by(PARAMETERS).zip(rows) {
        let [partition, offset, timestamp, checksum] = record_values(event.coordinates(), checksum);
        let [object_type, object_id, json] = [event.object_type(), event.object_id(), event.json()]
            .map(|text| ValueRef::Text(text.as_bytes()));
        let values = [
            ValueRef::Integer(*position),
            partition,
            offset,
            timestamp,
            checksum,
            object_type,
            object_id,
            json,
        ];
        if first == 2 {
            bind(statement, 1, &[partition])?;
        }
        bind(statement, first, &values[2..])?;
        let row_checksum = RowChecksum::of(EVENTS.name, &values);
        statement.raw_bind_parameter(first + PARAMETERS - 1, row_checksum)?;
        *position += 1;
    }
    statement.raw_execute().map(drop)
}
