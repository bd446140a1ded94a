//! A log of an older schema version, before its rows get checksums: those are of what the rows say then, so damage that
//! is there already would never be found again.

use std::io;
use std::time::{Duration, Instant};

use super::{CheckError, CheckReport, LogFinding};
use crate::{error::LogError, reader::LogReader};

/// Between two log lines that say how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

/// Counts findings, and keeps the first.
struct Findings {
    first: Option<LogFinding>,
    findings: u64,
    rows: u64,
    said: Instant,
}

impl CheckReport for Findings {
    fn ahead(&mut self, _: u64) {}

    fn advanced(&mut self) {
        self.rows += 1;
        if self.said.elapsed() >= PROGRESS {
            self.said = Instant::now();
            tracing::info!(rows = self.rows, "checking the event log before it is upgraded");
        }
    }

    fn finding(&mut self, finding: &LogFinding) -> io::Result<()> {
        self.findings += 1;
        self.first.get_or_insert_with(|| finding.clone());
        Ok(())
    }
}

/// Refuses a log whose tables do not agree with each other.
pub(crate) fn refuse_findings(log: &LogReader) -> Result<(), LogError> {
    let mut report = Findings { first: None, findings: 0, rows: 0, said: Instant::now() };
    match log.check(&mut report) {
        Ok(_) => {}
        Err(CheckError::Log(error)) => return Err(error),
        Err(CheckError::Report(source)) => {
            return Err(LogError::Io { path: log.path.clone(), doing: "checking it", source });
        }
    }
    let Some(first) = report.first else { return Ok(()) };
    let found = format!(
        "before its upgrade from an older schema version, a check of it has {} findings, the first: {first} \
         ('activity-stream log check --log-file {}' lists all)",
        report.findings,
        log.path.display()
    );
    Err(LogError::damaged(&log.path, found))
}
