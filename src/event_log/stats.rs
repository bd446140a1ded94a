//! The log in numbers, none of which is counted by reading the events.

use std::fs;

use super::cursor::CursorRow;
use super::instance::beside;
use super::schema::user_version;
use super::{Counts, Cursor, Gap, Intervention, LogError, LogReader};

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
        let partitions: Vec<PartitionStats> = CursorRow::load_all(&snapshot)?
            .into_values()
            .map(|CursorRow { cursor, counts }| PartitionStats { cursor, counts })
            .collect();
        let mut statement =
            snapshot.prepare_cached("SELECT partition, first_offset, next_offset, reason FROM gaps")?;
        let gaps = statement
            .query_map([], |row| {
                let gap = Gap { first_offset: row.get(1)?, next_offset: row.get(2)?, reason: row.get(3)? };
                Ok((row.get(0)?, gap))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let mut statement =
            snapshot.prepare_cached("SELECT partition, at, flag, details FROM interventions ORDER BY id")?;
        let interventions = statement
            .query_map([], |row| {
                let intervention = Intervention { at: row.get(1)?, flag: row.get(2)?, details: row.get(3)? };
                Ok((row.get(0)?, intervention))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let bytes = |path: &std::path::Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(Stats {
            topic: self.topic.clone(),
            schema_version: user_version(&snapshot)?,
            file_bytes: bytes(&self.path) + bytes(&beside(&self.path, "-wal")),
            counts: partitions.iter().fold(Counts::default(), |sum, partition| sum.with(&partition.counts)),
            partitions,
            gaps,
            interventions,
        })
    }
}

impl Counts {
    fn with(self, other: &Self) -> Self {
        Self {
            events: self.events + other.events,
            duplicates: self.duplicates + other.duplicates,
            rejections: self.rejections + other.rejections,
            earliest: self.earliest.into_iter().chain(other.earliest).min(),
            latest: self.latest.into_iter().chain(other.latest).max(),
        }
    }
}
