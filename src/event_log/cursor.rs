//! How far each partition is.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use crate::activity::Coordinates;

/// The record timestamps that the contract accepts: 1970 to the end of 9999, in milliseconds.
const VALID_TIMESTAMPS: std::ops::RangeInclusive<i64> = 0..=253_402_300_799_999;

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
}

impl CursorRow {
    pub(super) fn new(partition: i32) -> Self {
        let cursor =
            Cursor { partition, logged: 0, clock: 0, published_seen: None, clean: false, anchor: None };
        Self { cursor, counts: Counts::default() }
    }

    /// A record goes by. The clock moves before the record is settled, and by a rejected one as well.
    pub(super) fn see(&mut self, at: Coordinates, checksum: u32) {
        if VALID_TIMESTAMPS.contains(&at.timestamp) {
            self.cursor.clock = self.cursor.clock.max(at.timestamp);
        }
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
        let mut statement = connection.prepare_cached(
            "SELECT partition, logged, clock, published_seen, clean, anchor_offset, anchor_timestamp, \
             anchor_checksum, events, duplicates, rejections, earliest, latest FROM cursors",
        )?;
        let rows = statement.query_map([], Self::read)?;
        rows.map(|row| row.map(|row| (row.cursor.partition, row))).collect()
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let anchor = match (row.get(5)?, row.get(6)?, row.get(7)?) {
            (Some(offset), Some(timestamp), Some(checksum)) => Some(Anchor { offset, timestamp, checksum }),
            _ => None,
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
                events: row.get::<_, i64>(8)?.cast_unsigned(),
                duplicates: row.get::<_, i64>(9)?.cast_unsigned(),
                rejections: row.get::<_, i64>(10)?.cast_unsigned(),
                earliest: row.get(11)?,
                latest: row.get(12)?,
            },
        })
    }

    pub(super) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Self { cursor, counts } = self;
        let mut statement = connection.prepare_cached(
            "INSERT OR REPLACE INTO cursors (partition, logged, clock, published_seen, clean, anchor_offset, \
             anchor_timestamp, anchor_checksum, events, duplicates, rejections, earliest, latest) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?;
        statement.execute(params![
            cursor.partition,
            cursor.logged,
            cursor.clock,
            cursor.published_seen,
            cursor.clean,
            cursor.anchor.map(|anchor| anchor.offset),
            cursor.anchor.map(|anchor| anchor.timestamp),
            cursor.anchor.map(|anchor| anchor.checksum),
            counts.events.cast_signed(),
            counts.duplicates.cast_signed(),
            counts.rejections.cast_signed(),
            counts.earliest,
            counts.latest,
        ])?;
        Ok(())
    }
}
