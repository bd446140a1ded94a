//! Statistics of a log, for which no event is read.

use std::fs;

use rusqlite::Row;

use crate::checksum::{self, DamagedRow, GAPS, INTERVENTIONS};
use crate::cursor::{Counts, Cursor, CursorRow};
use crate::error::LogError;
use crate::files::with_suffix;
use crate::reader::LogReader;
use crate::schema::user_version;
use crate::writer::{Gap, Intervention};

/// Statistics of a log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    pub topic: String,
    pub schema_version: i64,
    /// The size of the database and its -wal file.
    pub file_bytes: u64,
    /// The sums over all partitions, and the lowest and highest timestamp.
    pub counts: Counts,
    /// In order of partition.
    pub partitions: Vec<PartitionStats>,
    /// With their partitions, in order of partition and offset.
    pub gaps: Vec<(i32, Gap)>,
    /// With their partitions, in the order in which they were recorded.
    pub interventions: Vec<(i32, Intervention)>,
    /// Rows that are left out because they are damaged.
    pub damaged: Vec<DamagedRow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionStats {
    pub cursor: Cursor,
    pub counts: Counts,
}

impl LogReader {
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
        let gaps = sound(checksum::read_all(&snapshot, &GAPS, "", gap)?, &mut damaged);
        let intervention = |row: &Row<'_>| {
            Ok((row.get(1)?, Intervention { at: row.get(2)?, flag: row.get(3)?, details: row.get(4)? }))
        };
        let interventions = checksum::read_all(&snapshot, &INTERVENTIONS, "ORDER BY id", intervention)?;
        let interventions = sound(interventions, &mut damaged);
        let mut counts = Counts::default();
        partitions.iter().for_each(|partition| counts.add(&partition.counts));
        let bytes = |path: &std::path::Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(Stats {
            topic: self.topic.clone(),
            schema_version: user_version(&snapshot)?,
            file_bytes: bytes(&self.path) + bytes(&with_suffix(&self.path, "-wal")),
            counts,
            partitions,
            gaps,
            interventions,
            damaged,
        })
    }
}

/// Moves damaged rows to `damaged`.
fn sound<T>(rows: Vec<Result<T, DamagedRow>>, damaged: &mut Vec<DamagedRow>) -> Vec<T> {
    rows.into_iter().filter_map(|row| row.map_err(|error| damaged.push(error)).ok()).collect()
}

impl Gap {
    /// Reads a row of table `gaps`.
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { first_offset: row.get(1)?, next_offset: row.get(2)?, reason: row.get(3)? })
    }
}
