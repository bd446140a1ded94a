//! Each row's checksum over its whole content; `schema/0002.sql` says over which bytes.

use std::fmt;
use std::ops::ControlFlow;

use rusqlite::types::{ToSqlOutput, Type, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, Row, params_from_iter};

/// A table whose rows carry a checksum. Whoever reads a row of it selects all columns, in this order, with `select`.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// All but `row_checksum`, the primary key first.
    pub(crate) columns: &'static [&'static str],
    /// Columns of the primary key.
    pub(crate) key: usize,
    /// `SELECT` of all columns, `row_checksum` last, without a condition.
    pub(crate) select: &'static str,
    /// Takes the values of all columns.
    pub(crate) insert: &'static str,
}

macro_rules! table {
    (@parameter $column:literal) => { "?, " };
    ($static:ident, $insert:literal $table:literal, $key:literal of [$($column:literal),+ $(,)?]) => {
        pub(super) static $static: $crate::checksum::Table = $crate::checksum::Table {
            name: $table,
            columns: &[$($column),+],
            key: $key,
            select: concat!("SELECT ", $($column, ", ",)+ "row_checksum FROM ", $table),
            insert: concat!(
                $insert, " INTO ", $table, " (", $($column, ", ",)+ "row_checksum) VALUES (",
                $($crate::checksum::table!(@parameter $column),)+ "?)"
            ),
        };
    };
}
pub(crate) use table;

table!(META, "INSERT OR REPLACE" "meta", 1 of ["name", "value"]);
table!(EVENTS, "INSERT" "events", 1 of [
    "position", "partition", "offset", "timestamp", "checksum", "object_type", "object_id", "json",
]);
table!(DUPLICATES, "INSERT" "duplicates", 2 of [
    "partition", "offset", "timestamp", "checksum", "of_offset", "of_timestamp",
]);
table!(REJECTIONS, "INSERT" "rejections", 2 of ["partition", "offset", "timestamp", "checksum", "problems"]);
table!(CURSORS, "INSERT OR REPLACE" "cursors", 1 of [
    "partition", "logged", "clock", "published_seen", "clean", "anchor_offset", "anchor_timestamp",
    "anchor_checksum", "events", "duplicates", "rejections", "earliest", "latest", "claims",
]);
table!(BATCHES, "INSERT" "batches", 2 of [
    "partition", "first_offset", "next_offset", "first_position", "events",
]);
table!(CLAIMS, "INSERT" "claims", 2 of [
    "partition", "offset", "key_hash", "fingerprint", "first_offset", "first_timestamp", "last_seen",
]);
table!(GAPS, "INSERT" "gaps", 2 of ["partition", "first_offset", "next_offset", "reason"]);
table!(INTERVENTIONS, "INSERT" "interventions", 1 of ["id", "partition", "at", "flag", "details"]);

pub(super) static TABLES: [&Table; 9] =
    [&META, &EVENTS, &DUPLICATES, &REJECTIONS, &CURSORS, &BATCHES, &CLAIMS, &GAPS, &INTERVENTIONS];

/// In the place of a checksum where the log is of version 1, which has none. No checksum is negative.
pub(super) const UNCHECKED: i64 = -1;

/// A row that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRow {
    pub table: &'static str,
    /// The row, by its key: `position 17`.
    pub row: String,
    /// What is wrong with it.
    pub found: String,
}

impl fmt::Display for DamagedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, row, found } = self;
        write!(f, "table {table}, {row}: {found}")
    }
}

impl std::error::Error for DamagedRow {}

impl From<DamagedRow> for rusqlite::Error {
    fn from(damaged: DamagedRow) -> Self {
        Self::FromSqlConversionFailure(0, Type::Null, Box::new(damaged))
    }
}

impl DamagedRow {
    pub(super) fn event(position: i64, found: impl Into<String>) -> Self {
        Self { table: EVENTS.name, row: format!("position {position}"), found: found.into() }
    }

    /// As [`checked`] or a conversion of the row says it; any other error is given back.
    pub(crate) fn of(error: rusqlite::Error, table: &Table, row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, source) if source.is::<Self>() => {
                Ok(*source.downcast().expect("seen above"))
            }
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => {
                Ok(Self { table: table.name, row: key_of(table, row), found: format!("unreadable: {error}") })
            }
            other => Err(other),
        }
    }
}

/// As many bytes as the columns of an event take besides its JSON.
const PENDING: usize = 128;

/// CRC-32C of a row's content.
pub(crate) struct RowChecksum {
    checksum: u32,
    /// Gathers what is short: a call for each value would cost more than the checksum itself.
    pending: [u8; PENDING],
    filled: usize,
}

impl RowChecksum {
    pub(crate) fn new(table: &str) -> Self {
        let mut started = Self { checksum: 0, pending: [0; PENDING], filled: 0 };
        started.put(table.as_bytes());
        started
    }

    #[inline]
    pub(crate) fn add(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.put(&[0]),
            ValueRef::Integer(value) => self.tagged(1, value.cast_unsigned()),
            ValueRef::Text(bytes) => self.bytes(2, bytes),
            ValueRef::Blob(bytes) => self.bytes(3, bytes),
            // No column of ours holds one; damage may have made one.
            ValueRef::Real(value) => self.tagged(4, value.to_bits()),
        }
    }

    fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        self.tagged(tag, bytes.len() as u64);
        self.put(bytes);
    }

    #[inline]
    fn tagged(&mut self, tag: u8, number: u64) {
        if self.filled + 9 > PENDING {
            self.flush();
        }
        // Of a length that the compiler knows: a call to copy them would cost more than all the rest.
        let place = &mut self.pending[self.filled..][..9];
        place[0] = tag;
        place[1..].copy_from_slice(&number.to_le_bytes());
        self.filled += 9;
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.filled + bytes.len() > PENDING {
            self.flush();
            if bytes.len() > PENDING {
                self.checksum = crc32c::crc32c_append(self.checksum, bytes);
                return;
            }
        }
        self.pending[self.filled..][..bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    fn flush(&mut self) {
        if self.filled > 0 {
            self.checksum = crc32c::crc32c_append(self.checksum, &self.pending[..self.filled]);
            self.filled = 0;
        }
    }

    pub(crate) fn finish(mut self) -> i64 {
        self.flush();
        self.checksum.into()
    }

    pub(crate) fn of(table: &str, values: &[ValueRef<'_>]) -> i64 {
        let mut checksum = Self::new(table);
        values.iter().for_each(|value| checksum.add(*value));
        checksum.finish()
    }
}

/// Writes a row with its checksum; `statement` is the table's `insert`.
pub(crate) fn insert(
    statement: &mut CachedStatement<'_>,
    table: &Table,
    values: &[ValueRef<'_>],
) -> rusqlite::Result<()> {
    for (index, value) in (1..).zip(values) {
        statement.raw_bind_parameter(index, ToSqlOutput::Borrowed(*value))?;
    }
    statement.raw_bind_parameter(values.len() + 1, RowChecksum::of(table.name, values))?;
    statement.raw_execute().map(drop)
}

/// [`insert`] of a single row.
pub(crate) fn insert_one(
    connection: &Connection,
    table: &Table,
    values: &[ValueRef<'_>],
) -> rusqlite::Result<()> {
    insert(&mut connection.prepare_cached(table.insert)?, table, values)
}

/// Compares the checksum of a row that the table's `select` gave with its content.
pub(crate) fn checked(row: &Row<'_>, table: &Table) -> rusqlite::Result<()> {
    let columns = table.columns.len();
    let stored = match row.get_ref(columns)? {
        ValueRef::Integer(UNCHECKED) => return Ok(()),
        stored => stored,
    };
    let mut checksum = RowChecksum::new(table.name);
    for column in 0..columns {
        checksum.add(row.get_ref(column)?);
    }
    let computed = checksum.finish();
    if stored == ValueRef::Integer(computed) {
        return Ok(());
    }
    let stored = match stored {
        ValueRef::Integer(stored) => format!("{stored:08x}"),
        other => other.data_type().to_string(),
    };
    let found = format!("its checksum is {stored}, its content has {computed:08x}");
    Err(DamagedRow { table: table.name, row: key_of(table, row), found }.into())
}

/// Every row of a small table, checked and read, or what is wrong with it.
pub(crate) fn each<T>(
    connection: &Connection,
    table: &Table,
    order: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<Result<T, DamagedRow>>> {
    let mut statement = connection.prepare_cached(&format!("{} {order}", table.select))?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(match checked(row, table).and_then(|()| read(row)) {
            Ok(read) => Ok(read),
            Err(error) => Err(DamagedRow::of(error, table, row)?),
        });
    }
    Ok(all)
}

/// The row by the columns of its key, as they are stored.
pub(super) fn key_of(table: &Table, row: &Row<'_>) -> String {
    let mut key = String::new();
    for (index, column) in table.columns[..table.key].iter().enumerate() {
        let value = match row.get_ref(index) {
            Ok(ValueRef::Integer(value)) => value.to_string(),
            Ok(ValueRef::Text(text)) => format!("{:?}", String::from_utf8_lossy(text)),
            _ => "unreadable".to_owned(),
        };
        let space = if key.is_empty() { "" } else { " " };
        key.push_str(&format!("{space}{column} {value}"));
    }
    key
}

/// Reads a table in the order of its key, some thousand rows at a time.
pub(super) struct Walk<'a> {
    table: &'a Table,
    last: Option<Vec<Value>>,
}

/// Few enough for what an update of them could have to undo, which is kept in memory.
const STRIDE: i64 = 4096;

impl<'a> Walk<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        Self { table, last: None }
    }

    /// Gives the next rows to `each`, until that breaks off; false where there are no more.
    pub(super) fn next(
        &mut self,
        connection: &Connection,
        mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<ControlFlow<()>>,
    ) -> rusqlite::Result<bool> {
        let Table { select, columns, key, .. } = *self.table;
        let names = columns[..key].join(", ");
        let after = match &self.last {
            None => String::new(),
            Some(_) => format!("WHERE ({names}) > ({})", vec!["?"; key].join(", ")),
        };
        let mut statement =
            connection.prepare_cached(&format!("{select} {after} ORDER BY {names} LIMIT {STRIDE}"))?;
        let mut rows = statement.query(params_from_iter(self.last.iter().flatten()))?;
        let mut any = false;
        while let Some(row) = rows.next()? {
            any = true;
            let key = (0..key).map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?;
            self.last = Some(key);
            if each(row)?.is_break() {
                return Ok(false);
            }
        }
        Ok(any)
    }
}

/// Computes the checksum of every row, as an upgrade needs it. `advanced` hears how many more rows have theirs.
pub(super) fn seal(connection: &Connection, mut advanced: impl FnMut(usize)) -> rusqlite::Result<()> {
    for table in TABLES {
        let (name, columns) = (table.name, &table.columns[..table.key]);
        let (names, places) = (columns.join(", "), vec!["?"; table.key].join(", "));
        let mut update = connection
            .prepare(&format!("UPDATE {name} SET row_checksum = ? WHERE ({names}) = ({places})"))?;
        let mut walk = Walk::new(table);
        loop {
            let mut sealed = Vec::new();
            let more = walk.next(connection, |row| {
                let mut checksum = RowChecksum::new(table.name);
                for column in 0..table.columns.len() {
                    checksum.add(row.get_ref(column)?);
                }
                let key = (0..table.key).map(|column| row.get(column));
                let values = std::iter::once(Ok(Value::Integer(checksum.finish()))).chain(key);
                sealed.push(values.collect::<rusqlite::Result<Vec<Value>>>()?);
                Ok(ControlFlow::Continue(()))
            })?;
            for values in &sealed {
                update.execute(params_from_iter(values))?;
            }
            advanced(sealed.len());
            if !more {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `schema/0002.sql` says it, in one piece.
    fn plainly(table: &str, values: &[Value]) -> i64 {
        let mut bytes = table.as_bytes().to_vec();
        for value in values {
            let (tag, number, text): (u8, u64, &[u8]) = match value {
                Value::Null => {
                    bytes.push(0);
                    continue;
                }
                Value::Integer(value) => (1, value.cast_unsigned(), &[]),
                Value::Text(text) => (2, text.len() as u64, text.as_bytes()),
                Value::Blob(blob) => (3, blob.len() as u64, blob),
                Value::Real(_) => unreachable!(),
            };
            bytes.push(tag);
            bytes.extend(number.to_le_bytes());
            bytes.extend(text);
        }
        crc32c::crc32c(&bytes).into()
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            ".{0,200}".prop_map(Value::Text),
            prop::collection::vec(any::<u8>(), 0..200).prop_map(Value::Blob),
        ]
    }

    proptest! {
        #[test]
        fn is_the_crc_of_the_bytes_that_the_schema_defines(values in prop::collection::vec(any_value(), 0..12)) {
            let references: Vec<_> = values.iter().map(ValueRef::from).collect();
            prop_assert_eq!(RowChecksum::of("events", &references), plainly("events", &values));
        }
    }

    #[test]
    fn bytes_that_move_to_the_next_column_change_it() {
        let of = |one: &str, other: &str| {
            RowChecksum::of("events", &[ValueRef::Text(one.as_bytes()), ValueRef::Text(other.as_bytes())])
        };
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_ne!(of("", "c"), of("c", ""));
    }
}
