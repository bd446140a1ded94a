//! Reads a whole log and reports what is wrong: SQLite's own findings, rows with a wrong checksum, tables that disagree,
//! and a damaged -wal file, which hides appends.

mod before_upgrade;
mod rows;
mod wal;

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::{fmt, io};

use contract::topic_bits;
use rusqlite::{ErrorCode, Row};
use thiserror::Error;

pub(crate) use before_upgrade::refuse_findings;
pub use wal::WalState;
pub(crate) use wal::damage as wal_damage;

use crate::checksum::{self, CURSORS, DamagedRow, GAPS, INTERVENTIONS, META, Table, UNCHECKED, check_row};
use crate::cursor::{Anchor, Counts, CursorRow};
use crate::error::LogError;
use crate::lookup::MISSING;
use crate::reader::LogReader;
use crate::writer::Gap;

/// Something that is wrong with the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFinding {
    pub table: Option<&'static str>,
    pub row: Option<String>,
    pub found: String,
}

impl fmt::Display for LogFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.table, &self.row) {
            (Some(table), Some(row)) => write!(f, "table {table}, {row}: {}", self.found),
            (Some(table), None) => write!(f, "table {table}: {}", self.found),
            _ => f.write_str(&self.found),
        }
    }
}

impl From<DamagedRow> for LogFinding {
    fn from(DamagedRow { table, row, found }: DamagedRow) -> Self {
        Self { table: Some(table), row: Some(row), found }
    }
}

impl LogFinding {
    fn of_file(found: String) -> Self {
        Self { table: None, row: None, found }
    }

    fn of_table(table: &Table, found: String) -> Self {
        Self { table: Some(table.name), row: None, found }
    }
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    pub rows: u64,
    pub findings: u64,
    /// Rows of schema version 1 have no checksums.
    pub has_checksums: bool,
    /// False if a processor was writing the -wal file: then it is not read.
    pub is_wal_checked: bool,
}

/// Why a check failed.
#[derive(Debug, Error)]
pub enum CheckError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Report(io::Error),
}

/// Receives the findings and the progress of a check.
pub trait CheckReport {
    /// Adds to the number of rows that the check will read.
    fn expect_rows(&mut self, rows: u64);
    /// A row was read.
    fn row_read(&mut self);
    /// An error ends the check.
    fn finding(&mut self, finding: &LogFinding) -> io::Result<()>;
}

impl LogReader {
    /// Reads the whole log. It can run beside a processor, and ignores what that appends after the start.
    pub fn check(&self, report: &mut dyn CheckReport) -> Result<Checked, CheckError> {
        let partitions = BTreeMap::new();
        let mut check = Check { log: self, report, rows: 0, findings: 0, has_damage: false, partitions };
        let is_wal_checked = check.wal()?;
        check.integrity()?;
        let has_checksums = check.meta()?;
        let last = check.bookkeeping()?;
        check.events(last)?;
        check.duplicates()?;
        check.rejections()?;
        check.claims()?;
        check.cursors()?;
        Ok(Checked { rows: check.rows, findings: check.findings, has_checksums, is_wal_checked })
    }
}

struct Check<'a> {
    log: &'a LogReader,
    report: &'a mut dyn CheckReport,
    rows: u64,
    findings: u64,
    /// Whether a row was skipped, so that counts can't agree.
    has_damage: bool,
    partitions: BTreeMap<i32, Partition>,
}

/// What the log's bookkeeping says about a partition, and what its rows say.
#[derive(Default)]
struct Partition {
    /// As it was at the start.
    cursor: Option<CursorRow>,
    gaps: Vec<Range<i64>>,
    counted: Counts,
    last: Option<Anchor>,
    last_event: Option<i64>,
    clock: i64,
}

impl Check<'_> {
    fn report(&mut self, finding: impl Into<LogFinding>) -> Result<(), CheckError> {
        self.findings += 1;
        self.report.finding(&finding.into()).map_err(CheckError::Report)
    }

    fn report_damaged(&mut self, damaged: DamagedRow) -> Result<(), CheckError> {
        self.has_damage = true;
        self.report(damaged)
    }

    fn advance(&mut self) {
        self.rows += 1;
        self.report.row_read();
    }

    fn sqlite(&self, error: rusqlite::Error) -> LogError {
        self.log.sqlite(error)
    }

    /// Reports damaged rows, and the findings that `check` returns for each sound row. Each transaction has some thousand
    /// rows, so SQLite can checkpoint in between.
    fn walk(
        &mut self,
        table: &Table,
        mut check: impl FnMut(&mut Self, &Row<'_>) -> rusqlite::Result<Vec<String>>,
    ) -> Result<(), CheckError> {
        let log = self.log;
        let mut walk = checksum::Walk::new(table);
        loop {
            let mut reported = Ok(());
            let walked = walk.next(&log.connection, |row| {
                self.advance();
                reported = match check_row(row, table).and_then(|()| check(self, row)) {
                    Ok(found) => found
                        .into_iter()
                        .try_for_each(|found| self.report(DamagedRow::new(table, row, found))),
                    Err(error) => self.report_damaged(DamagedRow::from_error(error, table, row)?),
                };
                Ok(if reported.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            });
            reported?;
            match walked {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                    self.has_damage = true;
                    let found = format!("the rest can't be read: {error}");
                    return self.report(LogFinding::of_table(table, found));
                }
                Err(error) => return Err(self.sqlite(error).into()),
            }
        }
    }

    fn wal(&mut self) -> Result<bool, CheckError> {
        match self.log.examine_wal()? {
            WalState::InUse => return Ok(false),
            WalState::Sound => {}
            WalState::Damaged(finding) => self.report(finding)?,
        }
        Ok(true)
    }

    fn integrity(&mut self) -> Result<(), CheckError> {
        let log = self.log;
        let read = || -> rusqlite::Result<Vec<String>> {
            log.connection.prepare("PRAGMA integrity_check")?.query_map([], |row| row.get(0))?.collect()
        };
        let found = match read() {
            Ok(lines) => lines,
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                vec![error.to_string()]
            }
            Err(error) => return Err(self.sqlite(error).into()),
        };
        for found in found.into_iter().filter(|found| found != "ok") {
            let found = format!("integrity_check: {}", found.replace('\n', "; "));
            self.report(LogFinding::of_file(found))?;
        }
        Ok(())
    }

    /// Returns whether rows have checksums.
    fn meta(&mut self) -> Result<bool, CheckError> {
        let wanted = topic_bits(&self.log.topic);
        let (mut has_checksums, mut has_bits) = (true, false);
        self.walk(&META, |check, row| {
            has_checksums = row.get::<_, i64>(2)? != UNCHECKED;
            if row.get_ref(0)?.as_str()? != "topic_bits" {
                return Ok(Vec::new());
            }
            has_bits = true;
            let bits: i64 = row.get(1)?;
            let found = || format!("{bits}, while the topic '{}' has {wanted}", check.log.topic);
            Ok((bits != i64::from(wanted)).then(found).into_iter().collect())
        })?;
        if !has_bits {
            self.report(DamagedRow::of_key(&META, "name \"topic_bits\"".to_owned(), MISSING))?;
        }
        Ok(has_checksums)
    }

    /// Reads cursors, gaps and interventions. Returns the last position at the moment at which the cursors were read.
    fn bookkeeping(&mut self) -> Result<i64, CheckError> {
        let log = self.log;
        let sqlite = |error| log.sqlite(error);
        let snapshot = log.connection.unchecked_transaction().map_err(sqlite)?;
        let last = log.last_position()?;
        for row in CursorRow::load_each(&snapshot).map_err(sqlite)? {
            self.advance();
            let row = match row {
                Ok(row) => row,
                Err(damaged) => {
                    self.report_damaged(damaged)?;
                    continue;
                }
            };
            let (partition, counts) = (row.cursor.partition, row.counts);
            let (claims_table, claims) = self.count_claims(partition)?;
            if row.claims != UNCHECKED && row.claims != claims {
                let found = format!(
                    "it counts {} rows of table {}, which has {claims}",
                    row.claims, claims_table.name
                );
                self.report(DamagedRow::of_key(&CURSORS, format!("partition {partition}"), found))?;
            }
            let rows = [counts.events, counts.duplicates, counts.rejections, claims.unsigned_abs()];
            self.report.expect_rows(rows.into_iter().fold(0, u64::saturating_add));
            self.partitions.entry(partition).or_default().cursor = Some(row);
        }
        drop(snapshot);
        self.walk(&GAPS, |check, row| {
            let (partition, gap) = (row.get(0)?, Gap::read(row)?);
            let partition = check.partitions.entry(partition).or_default();
            let is_after_last = partition.gaps.last().is_none_or(|last| last.end <= gap.first_offset);
            if is_after_last && gap.first_offset < gap.next_offset {
                partition.gaps.push(gap.first_offset..gap.next_offset);
                return Ok(Vec::new());
            }
            Ok(vec![format!("it ends at offset {}, or overlaps the gap before it", gap.next_offset)])
        })?;
        self.walk(&INTERVENTIONS, |_, _| Ok(Vec::new()))?;
        Ok(last)
    }

    /// Compares the cursors with the rows.
    fn cursors(&mut self) -> Result<(), CheckError> {
        if self.has_damage {
            return Ok(());
        }
        for (number, partition) in std::mem::take(&mut self.partitions) {
            for found in partition.findings() {
                self.report(DamagedRow::of_key(&CURSORS, format!("partition {number}"), found))?;
            }
        }
        Ok(())
    }
}

impl Partition {
    /// How the cursor and the rows disagree.
    fn findings(&self) -> Vec<String> {
        let Self { cursor, gaps, counted, last, clock, .. } = self;
        let Some(CursorRow { cursor, counts, .. }) = cursor else {
            // A partition that started after the check has no rows either.
            let is_missing = last.is_some() || !gaps.is_empty();
            return is_missing.then(|| MISSING.to_owned()).into_iter().collect();
        };
        let mut found = Vec::new();
        if counts != counted {
            found.push(format!("it counts {counts:?}, the tables have {counted:?}"));
        }
        if cursor.anchor != *last {
            found.push(format!("its last record is {:?}, the tables have {last:?}", cursor.anchor));
        }
        if cursor.clock != *clock {
            found.push(format!("its clock is {}, the highest record timestamp is {clock}", cursor.clock));
        }
        let end_of_rows = last.map_or(0, |last| last.offset.saturating_add(1));
        let end = end_of_rows.max(gaps.last().map_or(0, |gap| gap.end));
        if cursor.logged < end {
            found.push(format!("logged is {}, while the log goes to {end}", cursor.logged));
        }
        if cursor.published_seen.is_some_and(|seen| seen < 0) {
            found.push("published_seen is negative".to_owned());
        }
        found
    }
}
