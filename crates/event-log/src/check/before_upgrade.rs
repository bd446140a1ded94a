//! Checks an older log before the upgrade, which computes checksums from the rows as they are: damage that exists by then
//! could never be detected.

use std::io;

use crate::check::{CheckError, CheckReport, LogFinding};
use crate::error::LogError;
use crate::reader::LogReader;
use crate::schema::Progress;

/// Counts the findings and keeps the first.
struct Findings {
    first: Option<LogFinding>,
    count: u64,
    progress: Progress,
}

impl CheckReport for Findings {
    fn expect_rows(&mut self, _: u64) {}

    fn row_read(&mut self) {
        self.progress.advance(1);
    }

    fn finding(&mut self, finding: &LogFinding) -> io::Result<()> {
        self.count += 1;
        self.first.get_or_insert_with(|| finding.clone());
        Ok(())
    }
}

/// Returns an error if the check finds anything.
pub(crate) fn refuse_findings(log: &LogReader) -> Result<(), LogError> {
    let progress = Progress::new("checking the event log before its upgrade");
    let mut report = Findings { first: None, count: 0, progress };
    log.check(&mut report).map_err(|error| match error {
        CheckError::Log(error) => error,
        CheckError::Report(error) => LogError::io(&log.path, "checking it")(error),
    })?;
    let Some(first) = report.first else { return Ok(()) };
    let found = format!(
        "a check before the upgrade of its schema has {} findings, the first: {first} \
         ('activity-stream log check --log-file {}' lists all)",
        report.count,
        log.path.display()
    );
    Err(LogError::damaged(&log.path, found))
}
