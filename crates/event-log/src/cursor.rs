//! How far each partition is.

use std::collections::BTreeMap;

use contract::Coordinates;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use crate::checksum::{self, CURSORS, DamagedRow, optional};

/// How far the log is with one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub partition: i32,
    /// The next offset to append. Every command below it is in the log or in a gap.
    pub logged: i64,
    /// The highest valid record timestamp so far, in milliseconds since 1970; 0 before the first.
    pub clock: i64,
    /// `published_seen <= published`, which is the group's committed offset.
    pub published_seen: Option<i64>,
    /// The last stop was clean, so `published_seen == published`.
    pub clean: bool,
    /// The last record below `logged`, to recognise the topic.
    pub anchor: Option<Anchor>,
}

/// Identifies a record of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    pub offset: i64,
    pub timestamp: i64,
    pub checksum: u32,
}

/// The number of a partition's commands by outcome, counted by the appends.
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
pub(crate) struct CursorRow {
    pub(crate) cursor: Cursor,
    pub(crate) counts: Counts,
    /// How many rows of the idempotency window the partition has: of `claim_groups`, before version 3 of `claims`.
    pub(crate) claims: i64,
}

impl CursorRow {
    pub(crate) fn new(partition: i32) -> Self {
        let cursor =
            Cursor { partition, logged: 0, clock: 0, published_seen: None, clean: false, anchor: None };
        Self { cursor, counts: Counts::default(), claims: 0 }
    }

    /// Call it for each record before its decision. A rejected record advances the clock too.
    pub(crate) fn advance(&mut self, at: Coordinates, checksum: u32) {
        self.cursor.clock = at.advance(self.cursor.clock);
        self.cursor.anchor = Some(Anchor { offset: at.offset, timestamp: at.timestamp, checksum });
    }

    /// Never lowers `published_seen`.
    pub(crate) fn raise_published_seen(&mut self, published: i64) {
        self.cursor.published_seen = self.cursor.published_seen.max(Some(published));
    }

    /// All rows by partition; an error if one is damaged.
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<BTreeMap<i32, Self>> {
        let rows = Self::load_each(connection)?.into_iter();
        rows.map(|row| row.map(|row| (row.cursor.partition, row)).map_err(Into::into)).collect()
    }

    pub(crate) fn load_each(connection: &Connection) -> rusqlite::Result<Vec<Result<Self, DamagedRow>>> {
        checksum::read_all(connection, &CURSORS, "", Self::read)
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

    pub(crate) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Self { cursor, counts, claims } = self;
        let [anchor_offset, anchor_timestamp, anchor_checksum] =
            cursor.anchor.map_or([ValueRef::Null; 3], |Anchor { offset, timestamp, checksum }| {
                [offset, timestamp, checksum.into()].map(ValueRef::Integer)
            });
        let values = [
            ValueRef::Integer(cursor.partition.into()),
            ValueRef::Integer(cursor.logged),
            ValueRef::Integer(cursor.clock),
            optional(cursor.published_seen),
            ValueRef::Integer(cursor.clean.into()),
            anchor_offset,
            anchor_timestamp,
            anchor_checksum,
            ValueRef::Integer(counts.events.cast_signed()),
            ValueRef::Integer(counts.duplicates.cast_signed()),
            ValueRef::Integer(counts.rejections.cast_signed()),
            optional(counts.earliest),
            optional(counts.latest),
            ValueRef::Integer(*claims),
        ];
        checksum::insert_one(connection, &CURSORS, &values)
    }
}

impl Counts {
    pub(crate) fn add_event(&mut self, timestamp: i64) {
        self.events += 1;
        self.earliest = Some(self.earliest.map_or(timestamp, |earliest| earliest.min(timestamp)));
        self.latest = self.latest.max(Some(timestamp));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.events = self.events.saturating_add(other.events);
        self.duplicates = self.duplicates.saturating_add(other.duplicates);
        self.rejections = self.rejections.saturating_add(other.rejections);
        self.earliest = self.earliest.into_iter().chain(other.earliest).min();
        self.latest = self.latest.max(other.latest);
    }
}
