//! A checksum over all columns of each row; `schema/0002.sql` defines the bytes.

use std::fmt;
use std::ops::ControlFlow;

use contract::Coordinates;
use rusqlite::types::{ToSqlOutput, Type, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, Row, params_from_iter};

use crate::schema;

/// A table whose rows have a checksum. Read its rows with `select`, which returns all columns in this order.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// All except `row_checksum`; the primary key is first.
    pub(crate) columns: &'static [&'static str],
    /// How many columns the primary key has.
    pub(crate) key: usize,
    /// `SELECT` of all columns, `row_checksum` last, without `WHERE`.
    pub(crate) select: &'static str,
    /// `INSERT` with a parameter for each column.
    pub(crate) insert: &'static str,
}

macro_rules! table {
    (@parameter $column:literal) => { "?, " };
    ($static:ident, $insert:literal $table:literal, $key:literal of [$($column:literal),+ $(,)?]) => {
        pub(crate) static $static: $crate::checksum::Table = $crate::checksum::Table {
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
table!(CLAIMS_OF_VERSION_2, "INSERT" "claims", 2 of [
    "partition", "offset", "key_hash", "fingerprint", "first_offset", "first_timestamp", "last_seen",
]);
table!(CLAIM_GROUPS, "INSERT" "claim_groups", 1 of ["id", "claims"]);
table!(GAPS, "INSERT" "gaps", 2 of ["partition", "first_offset", "next_offset", "reason"]);
table!(INTERVENTIONS, "INSERT" "interventions", 1 of ["id", "partition", "at", "flag", "details"]);

/// The tables of a schema version.
pub(crate) fn tables(version: i64) -> [&'static Table; 9] {
    let claims = if has_claim_groups(version) { &CLAIM_GROUPS } else { &CLAIMS_OF_VERSION_2 };
    [&META, &EVENTS, &DUPLICATES, &REJECTIONS, &CURSORS, &BATCHES, claims, &GAPS, &INTERVENTIONS]
}

/// Whether a schema version has table `claim_groups` instead of `claims`.
pub(crate) fn has_claim_groups(version: i64) -> bool {
    version >= 3
}

/// Stands for the checksum of a row in a log of version 1, which has none. A checksum is never negative.
pub(crate) const UNCHECKED: i64 = -1;

/// A row that changed after it was written, or is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRow {
    pub table: &'static str,
    /// The primary key, such as `position 17`.
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
    pub(crate) fn new(table: &Table, row: &Row<'_>, found: String) -> Self {
        Self::of_key(table, key_of(table, row), found)
    }

    pub(crate) fn of_key(table: &Table, key: String, found: impl Into<String>) -> Self {
        Self { table: table.name, row: key, found: found.into() }
    }

    pub(crate) fn event(position: i64, found: impl Into<String>) -> Self {
        Self::of_key(&EVENTS, format!("position {position}"), found)
    }

    /// The damage that an error of [`check_row`] or of reading the row's columns stands for; other errors are returned.
    pub(crate) fn from_error(
        error: rusqlite::Error,
        table: &Table,
        row: &Row<'_>,
    ) -> Result<Self, rusqlite::Error> {
        match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, source) if source.is::<Self>() => {
                Ok(*source.downcast().expect("the guard checked the type"))
            }
            error if is_conversion_error(&error) => Ok(Self::new(table, row, format!("unreadable: {error}"))),
            other => Err(other),
        }
    }
}

/// Whether a column's value was not of the type that was read.
pub(crate) fn is_conversion_error(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(error, FromSqlConversionFailure(..) | InvalidColumnType(..) | IntegralValueOutOfRange(..))
}

/// Enough for the columns of an event other than its JSON.
const PENDING: usize = 128;

/// Computes the CRC-32C of a row.
pub(crate) struct RowChecksum {
    checksum: u32,
    /// Buffers short values: a CRC call for each would cost more than the checksum itself.
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
            // No column has this type, but a damaged row can.
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
        // The compiler knows this length, so it emits no call to memcpy, which would cost more than all the rest.
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

    fn of_row(table: &Table, row: &Row<'_>) -> rusqlite::Result<i64> {
        let mut checksum = Self::new(table.name);
        for column in 0..table.columns.len() {
            checksum.add(row.get_ref(column)?);
        }
        Ok(checksum.finish())
    }
}

/// Inserts a row with its checksum; `statement` is prepared from the table's `insert`.
pub(crate) fn insert(
    statement: &mut CachedStatement<'_>,
    table: &Table,
    values: &[ValueRef<'_>],
) -> rusqlite::Result<()> {
    bind(statement, 1, values)?;
    statement.raw_bind_parameter(1 + values.len(), RowChecksum::of(table.name, values))?;
    statement.raw_execute().map(drop)
}

/// Binds values to consecutive parameters.
pub(crate) fn bind(
    statement: &mut CachedStatement<'_>,
    first: usize,
    values: &[ValueRef<'_>],
) -> rusqlite::Result<()> {
    (first..)
        .zip(values)
        .try_for_each(|(index, value)| statement.raw_bind_parameter(index, ToSqlOutput::Borrowed(*value)))
}

/// [`insert`] for a single row.
pub(crate) fn insert_one(
    connection: &Connection,
    table: &Table,
    values: &[ValueRef<'_>],
) -> rusqlite::Result<()> {
    insert(&mut connection.prepare_cached(table.insert)?, table, values)
}

/// Compares a row's checksum with its columns. Call it before anything of the row is used.
pub(crate) fn check_row(row: &Row<'_>, table: &Table) -> rusqlite::Result<()> {
    let stored = row.get_ref(table.columns.len())?;
    if stored == ValueRef::Integer(UNCHECKED) {
        return Ok(());
    }
    let computed = RowChecksum::of_row(table, row)?;
    if stored == ValueRef::Integer(computed) {
        return Ok(());
    }
    let stored = match stored {
        ValueRef::Integer(stored) => format!("{stored:08x}"),
        other => other.data_type().to_string(),
    };
    let found = format!("its checksum is {stored}, its content has {computed:08x}");
    Err(DamagedRow::new(table, row, found).into())
}

pub(crate) fn optional(value: Option<i64>) -> ValueRef<'static> {
    value.map_or(ValueRef::Null, ValueRef::Integer)
}

/// The columns `partition`, `offset` and `timestamp`, the first of which is at index `first`.
pub(crate) fn coordinates(row: &Row<'_>, first: usize) -> rusqlite::Result<Coordinates> {
    Ok(Coordinates {
        partition: row.get(first)?,
        offset: row.get(first + 1)?,
        timestamp: row.get(first + 2)?,
    })
}

/// Reads and checks all rows of a small table.
pub(crate) fn read_all<T>(
    connection: &Connection,
    table: &Table,
    order: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<Result<T, DamagedRow>>> {
    let mut statement = connection.prepare_cached(&format!("{} {order}", table.select))?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(match check_row(row, table).and_then(|()| read(row)) {
            Ok(read) => Ok(read),
            Err(error) => Err(DamagedRow::from_error(error, table, row)?),
        });
    }
    Ok(all)
}

/// The primary key as it is stored.
fn key_of(table: &Table, row: &Row<'_>) -> String {
    let columns = table.columns[..table.key].iter().enumerate().map(|(index, column)| {
        let value = match row.get_ref(index) {
            Ok(ValueRef::Integer(value)) => value.to_string(),
            Ok(ValueRef::Text(text)) => format!("{:?}", String::from_utf8_lossy(text)),
            _ => "unreadable".to_owned(),
        };
        format!("{column} {value}")
    });
    columns.collect::<Vec<_>>().join(" ")
}

/// Reads a table in the order of its primary key, some thousand rows in a transaction.
pub(crate) struct Walk<'a> {
    table: &'a Table,
    last: Option<Vec<Value>>,
}

/// SQLite keeps in memory how to undo an update of that many rows.
const STRIDE: i64 = 4096;

impl<'a> Walk<'a> {
    pub(crate) fn new(table: &'a Table) -> Self {
        Self { table, last: None }
    }

    /// Passes the next rows to `each`, until it breaks. Returns whether there may be more.
    pub(crate) fn next(
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
                break;
            }
        }
        Ok(any)
    }
}

/// Computes the checksums of all rows again. `progress` gets the number of rows done since its last call.
pub(crate) fn update_checksums(
    connection: &Connection,
    mut progress: impl FnMut(usize),
) -> rusqlite::Result<()> {
    for table in tables(schema::user_version(connection)?) {
        let (names, places) = (table.columns[..table.key].join(", "), vec!["?"; table.key].join(", "));
        let mut update = connection
            .prepare(&format!("UPDATE {} SET row_checksum = ? WHERE ({names}) = ({places})", table.name))?;
        let mut walk = Walk::new(table);
        let mut more = true;
        while more {
            let mut updates: Vec<Vec<Value>> = Vec::new();
            more = walk.next(connection, |row| {
                let mut values = vec![Value::Integer(RowChecksum::of_row(table, row)?)];
                for column in 0..table.key {
                    values.push(row.get(column)?);
                }
                updates.push(values);
                Ok(ControlFlow::Continue(()))
            })?;
            for values in &updates {
                update.execute(params_from_iter(values))?;
            }
            progress(updates.len());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition in `schema/0002.sql`, without a buffer.
    fn reference(table: &str, values: &[Value]) -> i64 {
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
        fn the_checksum_is_the_crc_of_the_bytes_that_the_schema_defines(values in prop::collection::vec(any_value(), 0..12)) {
            let references: Vec<_> = values.iter().map(ValueRef::from).collect();
            prop_assert_eq!(RowChecksum::of("events", &references), reference("events", &values));
        }
    }

    #[test]
    fn the_checksum_changes_if_bytes_move_to_the_next_column() {
        let of = |one: &str, other: &str| {
            RowChecksum::of("events", &[ValueRef::Text(one.as_bytes()), ValueRef::Text(other.as_bytes())])
        };
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_ne!(of("", "c"), of("c", ""));
    }
}
