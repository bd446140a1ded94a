//! Reads all of a log and says what is wrong with it: what SQLite finds, each row's checksum, and whether the tables
//! agree with each other, and whether the -wal file has hidden some of it.

mod before_upgrade;
mod rows;
mod wal;

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::{fmt, io};

use contract::topic_bits;
use rusqlite::{ErrorCode, Row};
use thiserror::Error;

pub(super) use before_upgrade::refuse_findings;
pub use wal::WalState;
pub(super) use wal::damage as wal_damage;

use super::checksum::{self, GAPS, INTERVENTIONS, META, Table, UNCHECKED, checked, key_of};
use super::cursor::CursorRow;
use super::{Anchor, Counts, DamagedRow, Gap, LogError, LogReader};

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

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    pub rows: u64,
    pub findings: u64,
    /// Whether rows carry checksums; those of schema version 1 don't.
    pub has_checksums: bool,
    /// False where a processor was writing the -wal file, which is not looked at then.
    pub is_wal_checked: bool,
}

/// Why the check did not come to its end.
#[derive(Debug, Error)]
pub enum CheckError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Report(io::Error),
}

/// Hears of what is found, and of each row that was read.
pub trait CheckReport {
    /// Rows that there are to read.
    fn ahead(&mut self, rows: u64);
    fn advanced(&mut self);
    /// An error ends the check.
    fn finding(&mut self, finding: &LogFinding) -> io::Result<()>;
}

impl LogReader {
    /// Reads everything. A processor may write meanwhile: what it adds after the start is left out.
    pub fn check(&self, report: &mut dyn CheckReport) -> Result<Checked, CheckError> {
        let mut check =
            Check { log: self, report, rows: 0, findings: 0, has_damage: false, partitions: BTreeMap::new() };
        let is_wal_checked = check.wal()?;
        check.integrity()?;
        let has_checksums = check.whole_log()?;
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
    /// A row was left out, so counts can't agree.
    has_damage: bool,
    partitions: BTreeMap<i32, Partition>,
}

/// What the log says of a partition, and what there is.
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
    fn tell(&mut self, finding: LogFinding) -> Result<(), CheckError> {
        self.findings += 1;
        self.report.finding(&finding).map_err(CheckError::Report)
    }

    fn tell_row(&mut self, table: &Table, row: String, found: impl Into<String>) -> Result<(), CheckError> {
        self.tell(LogFinding { table: Some(table.name), row: Some(row), found: found.into() })
    }

    fn tell_damaged(&mut self, damaged: DamagedRow) -> Result<(), CheckError> {
        self.has_damage = true;
        self.tell(damaged.into())
    }

    fn advance(&mut self) {
        self.rows += 1;
        self.report.advanced();
    }

    fn sqlite(&self, error: rusqlite::Error) -> LogError {
        self.log.sqlite(error)
    }

    /// Gives each sound row of a table to `each`, some thousands in one transaction, so that the -wal file can be emptied
    /// in between.
    fn walk(
        &mut self,
        table: &Table,
        mut each: impl FnMut(&mut Self, &Row<'_>) -> rusqlite::Result<Result<(), CheckError>>,
    ) -> Result<(), CheckError> {
        let log = self.log;
        let mut walk = checksum::Walk::new(table);
        loop {
            let mut told = Ok(());
            let walked = walk.next(&log.connection, |row| {
                self.advance();
                match checked(row, table).and_then(|()| each(self, row)) {
                    Ok(ended) => told = ended,
                    Err(error) => told = self.tell_damaged(DamagedRow::of(error, table, row)?),
                }
                Ok(if told.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            });
            told?;
            match walked {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                    self.has_damage = true;
                    let found = format!("the rest can't be read: {error}");
                    return self.tell(LogFinding { table: Some(table.name), row: None, found });
                }
                Err(error) => return Err(self.sqlite(error).into()),
            }
        }
    }

    fn wal(&mut self) -> Result<bool, CheckError> {
        match self.log.examine_wal()? {
            WalState::InUse => return Ok(false),
            WalState::Sound => {}
            WalState::Damaged(finding) => self.tell(finding)?,
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
            self.tell(LogFinding { table: None, row: None, found })?;
        }
        Ok(())
    }

    /// The facts about the log, and whether its rows have checksums.
    fn whole_log(&mut self) -> Result<bool, CheckError> {
        let wanted = topic_bits(&self.log.topic);
        let (mut has_checksums, mut has_bits) = (true, false);
        self.walk(&META, |check, row| {
            has_checksums = row.get::<_, i64>(2)? != UNCHECKED;
            if row.get_ref(0)?.as_str()? != "topic_bits" {
                return Ok(Ok(()));
            }
            has_bits = true;
            let bits: i64 = row.get(1)?;
            if bits == i64::from(wanted) {
                return Ok(Ok(()));
            }
            let found = format!("{bits}, while the topic '{}' has {wanted}", check.log.topic);
            Ok(check.tell_row(&META, key_of(&META, row), found))
        })?;
        if !has_bits {
            self.tell_row(&META, "name \"topic_bits\"".to_owned(), super::lookup::MISSING)?;
        }
        Ok(has_checksums)
    }

    /// Cursors, gaps and interventions, and the position of the last event, all of one moment.
    fn bookkeeping(&mut self) -> Result<i64, CheckError> {
        let log = self.log;
        let snapshot = log.connection.unchecked_transaction().map_err(|error| log.sqlite(error))?;
        let last = log.last_position()?;
        let sqlite = |error| log.sqlite(error);
        let count = |table: &str, of: i32| -> rusqlite::Result<i64> {
            let sql = format!("SELECT count(*) FROM {table} WHERE partition = ?1");
            snapshot.query_row(&sql, [of], |row| row.get(0))
        };
        for row in CursorRow::load_each(&snapshot).map_err(sqlite)? {
            self.advance();
            let row = match row {
                Ok(row) => row,
                Err(damaged) => {
                    self.tell_damaged(damaged)?;
                    continue;
                }
            };
            let (partition, counts) = (row.cursor.partition, row.counts);
            let claims = count("claims", partition).map_err(sqlite)?;
            if row.claims != UNCHECKED && row.claims != claims {
                let found = format!("it counts {} rows of table claims, which has {claims}", row.claims);
                self.tell_row(&checksum::CURSORS, format!("partition {partition}"), found)?;
            }
            let ahead = [counts.events, counts.duplicates, counts.rejections, claims.unsigned_abs()];
            self.report.ahead(ahead.into_iter().fold(0, u64::saturating_add));
            self.partitions.entry(partition).or_default().cursor = Some(row);
        }
        drop(snapshot);
        self.walk(&GAPS, |check, row| {
            let (partition, gap) = (row.get(0)?, Gap::read(row)?);
            let partition = check.partitions.entry(partition).or_default();
            let begins_after = partition.gaps.last().is_none_or(|last| last.end <= gap.first_offset);
            if begins_after && gap.first_offset < gap.next_offset {
                partition.gaps.push(gap.first_offset..gap.next_offset);
                return Ok(Ok(()));
            }
            let found = format!("it ends at offset {}, or overlaps the gap before it", gap.next_offset);
            Ok(check.tell_row(&GAPS, key_of(&GAPS, row), found))
        })?;
        self.walk(&INTERVENTIONS, |_, _| Ok(Ok(())))?;
        Ok(last)
    }

    /// Compares the cursors with the rows.
    fn cursors(&mut self) -> Result<(), CheckError> {
        if self.has_damage {
            // Rows that can't be read are in no count.
            return Ok(());
        }
        for (number, partition) in std::mem::take(&mut self.partitions) {
            let Partition { cursor, gaps, counted, last, clock, .. } = partition;
            let row = format!("partition {number}");
            let Some(CursorRow { cursor, counts, .. }) = cursor else {
                // A partition that is new since the start has none of the rows either.
                if last.is_some() || !gaps.is_empty() {
                    self.tell_row(&checksum::CURSORS, row, super::lookup::MISSING)?;
                }
                continue;
            };
            let mut found = Vec::new();
            if counts != counted {
                found.push(format!("it counts {counts:?}, the tables have {counted:?}"));
            }
            if cursor.anchor != last {
                found.push(format!("its last record is {:?}, the tables have {last:?}", cursor.anchor));
            }
            if cursor.clock != clock {
                found.push(format!("its clock is {}, the highest record timestamp is {clock}", cursor.clock));
            }
            let end = last
                .map_or(0, |last| last.offset.saturating_add(1))
                .max(gaps.last().map_or(0, |gap| gap.end));
            if cursor.logged < end {
                found.push(format!("logged is {}, while the log goes to {end}", cursor.logged));
            }
            if cursor.published_seen.is_some_and(|seen| seen < 0) {
                found.push("published_seen is negative".to_owned());
            }
            for found in found {
                self.tell_row(&checksum::CURSORS, row.clone(), found)?;
            }
        }
        Ok(())
    }
}
