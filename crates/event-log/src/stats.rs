//! The log in numbers, none of which is counted by reading the events.

use std::fs;

use rusqlite::Row;

use super::checksum::{self, GAPS, INTERVENTIONS};
use super::cursor::CursorRow;
use super::instance::beside;
use super::schema::user_version;
use super::{Counts, Cursor, DamagedRow, Gap, Intervention, LogError, LogReader};

/// One state of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    pub topic: String,
    pub schema_version: i64,
    /// Bytes of the database and of its -wal file.
    pub file_bytes: u64,
    /// All partitions together; their timestamps are those of the first and the last event by time.
    pub counts: Counts,
    /// In order of partition.
    pub partitions: Vec<PartitionStats>,
    /// Each with its partition, in order of partition and offset.
    pub gaps: Vec<(i32, Gap)>,
    /// Each with its partition, in the order in which they were written down.
    pub interventions: Vec<(i32, Intervention)>,
    /// Rows that are in none of these, because they are not as they were written.
    pub damaged: Vec<DamagedRow>,
}

/// One partition's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionStats {
    pub cursor: Cursor,
    pub counts: Counts,
}

impl LogReader {
    /// Cursors, counts, gaps and interventions, all of the same moment.
    pub fn stats(&self) -> Result<Stats, LogError> {
        self.read_stats().map_err(|error| self.sqlite(error))
    }

    fn read_stats(&self) -> rusqlite::Result<Stats> {
        let snapshot = self.connection.unchecked_transaction()?;
        let mut damaged = Vec::new();
        let partitions: Vec<PartitionStats> = sound(CursorRow::load_each(&snapshot)?, &mut damaged)
            .into_iter()
            .map(|CursorRow { cursor, counts, .. }| PartitionStats { cursor, counts })
            .collect();
        let gap = |row: &Row<'_>| Ok((row.get(0)?, Gap::read(row)?));
        let gaps = sound(checksum::each(&snapshot, &GAPS, "", gap)?, &mut damaged);
        let intervention = |row: &Row<'_>| {
            Ok((row.get(1)?, Intervention { at: row.get(2)?, flag: row.get(3)?, details: row.get(4)? }))
        };
        let interventions = checksum::each(&snapshot, &INTERVENTIONS, "ORDER BY id", intervention)?;
        let interventions = sound(interventions, &mut damaged);
        let bytes = |path: &std::path::Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(Stats {
            topic: self.topic.clone(),
            schema_version: user_version(&snapshot)?,
            file_bytes: bytes(&self.path) + bytes(&beside(&self.path, "-wal")),
            counts: partitions.iter().fold(Counts::default(), |sum, partition| sum.with(&partition.counts)),
            partitions,
            gaps,
            interventions,
            damaged,
        })
    }
}

/// Rows as they were written; the others go to `damaged`.
fn sound<T>(rows: Vec<Result<T, DamagedRow>>, damaged: &mut Vec<DamagedRow>) -> Vec<T> {
    rows.into_iter().filter_map(|row| row.map_err(|error| damaged.push(error)).ok()).collect()
}

impl Gap {
    /// A row of table `gaps`.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { first_offset: row.get(1)?, next_offset: row.get(2)?, reason: row.get(3)? })
    }
}

impl Counts {
    fn with(self, other: &Self) -> Self {
        Self {
            events: self.events.saturating_add(other.events),
            duplicates: self.duplicates.saturating_add(other.duplicates),
            rejections: self.rejections.saturating_add(other.rejections),
            earliest: self.earliest.into_iter().chain(other.earliest).min(),
            latest: self.latest.into_iter().chain(other.latest).max(),
        }
    }
}
