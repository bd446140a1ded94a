//! Damaged rows: each is named, and the others are shown.

use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
};

use anyhow::bail;
use event_log::LogReader;

use crate::cli::output::{StdoutError, count};

/// Rows that differ from what was written, so they can't be shown.
pub(super) struct Damage<'a> {
    path: &'a Path,
    rows: u64,
}

impl<'a> Damage<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self { path, rows: 0 }
    }

    pub(super) fn name(&mut self, row: &impl Display) {
        self.rows += 1;
        let _ = writeln!(io::stderr(), "activity-stream: {}: {row}", self.path.display());
    }

    /// Fails if there was one, even if nobody reads the output any more, or if the log has lost its end.
    pub(super) fn end(self, log: &LogReader, printed: anyhow::Result<()>) -> anyhow::Result<()> {
        if self.rows == 0 {
            printed?;
            return Ok(log.check_counts()?);
        }
        if let Err(error) = printed
            && !StdoutError::is_unread(&error)
        {
            return Err(error);
        }
        let rows = count(self.rows, "damaged row");
        bail!(
            "{}: left out {rows}; find all damage with 'activity-stream log check', then restore the log from a \
             backup, or move it away with its -wal and -shm files: it fills up again from what the topic retains",
            self.path.display()
        )
    }
}
