//! How far each partition is.

use std::collections::BTreeMap;

use contract::Coordinates;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::checksum::{self, CURSORS, DamagedRow};

/// How far the log is with one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub partition: i32,
    /// The next offset that the log lacks: every command below it is in the log, or in a gap.
    pub logged: i64,
    /// The highest valid record timestamp seen, in milliseconds since 1970; 0 before the first.
    pub clock: i64,
    /// `published_seen <= published`, the group's committed offset.
    pub published_seen: Option<i64>,
    /// The partition was put down in order, and `published_seen == published`.
    pub clean: bool,
    /// The last record below `logged`, by which the topic is known again.
    pub anchor: Option<Anchor>,
}

/// What is remembered of a record to know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    pub offset: i64,
    pub timestamp: i64,
    pub checksum: u32,
}

/// What a partition's commands became, counted as they were appended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    pub duplicates: u64,
    pub rejections: u64,
    /// Lowest record timestamp of an event.
    pub earliest: Option<i64>,
    /// Highest record timestamp of an event.
    pub latest: Option<i64>,
}

/// A row of table `cursors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CursorRow {
    pub(super) cursor: Cursor,
    pub(super) counts: Counts,
    /// The partition's rows in table `claims`.
    pub(super) claims: i64,
}

impl CursorRow {
    pub(super) fn new(partition: i32) -> Self {
        let cursor =
            Cursor { partition, logged: 0, clock: 0, published_seen: None, clean: false, anchor: None };
        Self { cursor, counts: Counts::default(), claims: 0 }
    }

    /// A record goes by. The clock moves before the record is settled, and by a rejected one as well.
    pub(super) fn see(&mut self, at: Coordinates, checksum: u32) {
        self.cursor.clock = at.advance(self.cursor.clock);
        self.cursor.anchor = Some(Anchor { offset: at.offset, timestamp: at.timestamp, checksum });
    }

    pub(super) fn count_event(&mut self, timestamp: i64) {
        let Counts { events, earliest, latest, .. } = &mut self.counts;
        *events += 1;
        *earliest = Some(earliest.map_or(timestamp, |earliest| earliest.min(timestamp)));
        *latest = Some(latest.map_or(timestamp, |latest| latest.max(timestamp)));
    }

    /// `published_seen` never moves down by what was merely noted.
    pub(super) fn note_published(&mut self, published: i64) {
        let seen = &mut self.cursor.published_seen;
        *seen = Some(seen.map_or(published, |seen| seen.max(published)));
    }

    pub(super) fn load_all(connection: &Connection) -> rusqlite::Result<BTreeMap<i32, Self>> {
        let mut rows = BTreeMap::new();
        for row in Self::load_each(connection)? {
            let row = row?;
            rows.insert(row.cursor.partition, row);
        }
        Ok(rows)
    }

    /// Every row, or what is wrong with it.
    pub(super) fn load_each(connection: &Connection) -> rusqlite::Result<Vec<Result<Self, DamagedRow>>> {
        checksum::each(connection, &CURSORS, "", Self::read)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let anchor = match (row.get(5)?, row.get(6)?, row.get(7)?) {
            (Some(offset), Some(timestamp), Some(checksum)) => Some(Anchor { offset, timestamp, checksum }),
            _ => None,
        };
        let count = |column| -> rusqlite::Result<u64> {
            let count: i64 = row.get(column)?;
            count.try_into().map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, count))
        };
        Ok(Self {
            cursor: Cursor {
                partition: row.get(0)?,
                logged: row.get(1)?,
                clock: row.get(2)?,
                published_seen: row.get(3)?,
                clean: row.get(4)?,
                anchor,
            },
            counts: Counts {
                events: count(8)?,
                duplicates: count(9)?,
                rejections: count(10)?,
                earliest: row.get(11)?,
                latest: row.get(12)?,
            },
            claims: row.get(13)?,
        })
    }

    pub(super) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Self { cursor, counts, claims } = self;
        let optional = |number: Option<i64>| number.map_or(ValueRef::Null, ValueRef::Integer);
        let anchor = cursor.anchor;
        checksum::insert_one(
            connection,
            &CURSORS,
            &[
                ValueRef::Integer(cursor.partition.into()),
                ValueRef::Integer(cursor.logged),
                ValueRef::Integer(cursor.clock),
                optional(cursor.published_seen),
                ValueRef::Integer(cursor.clean.into()),
                optional(anchor.map(|anchor| anchor.offset)),
                optional(anchor.map(|anchor| anchor.timestamp)),
                optional(anchor.map(|anchor| anchor.checksum.into())),
                ValueRef::Integer(counts.events.cast_signed()),
                ValueRef::Integer(counts.duplicates.cast_signed()),
                ValueRef::Integer(counts.rejections.cast_signed()),
                optional(counts.earliest),
                optional(counts.latest),
                ValueRef::Integer(*claims),
            ],
        )
    }
}
