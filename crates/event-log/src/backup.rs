//! A copy of a log while a processor writes it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::draft::Draft;
use super::instance::beside;
use super::{CheckError, CheckReport, LogError, LogReader, files, schema};

/// What files beside a database are called: SQLite or the next start would take a backup of that name for one of them.
const NAMES_OF_OTHERS: [&str; 5] = ["-wal", "-shm", "-journal", "-instance", "-read-model"];

/// What became of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Backup {
    Made {
        events: u64,
    },
    /// The log is not as it was written. There is no backup: its name is that of a sound log.
    Damaged {
        findings: u64,
    },
}

impl LogReader {
    /// Copies one state of the log to a new file, which gets its name when it is complete, checked and flushed.
    ///
    /// `VACUUM INTO` reads in one transaction. SQLite's backup interface, by which the shell's `.backup` copies some
    /// pages at a time, begins again whenever somebody has written in between, so it never ends beside a busy writer.
    pub fn back_up(&self, to: &Path, report: &mut dyn CheckReport) -> Result<Backup, CheckError> {
        let name = to.as_os_str().as_bytes();
        if let Some(suffix) = NAMES_OF_OTHERS.into_iter().find(|suffix| name.ends_with(suffix.as_bytes())) {
            return Err(LogError::BackupName { path: to.to_owned(), suffix }.into());
        }
        // What SQLite left beside another log that had this name would be replayed onto the copy.
        for taken in [to.to_owned(), beside(to, "-wal"), beside(to, "-journal")] {
            if files::find(&taken)?.is_some() {
                return Err(LogError::Exists { path: taken }.into());
            }
        }
        let draft = Draft::beside(to)?;
        self.copy_into(draft.path()).map_err(|error| {
            let of_the_log = error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt);
            LogError::sqlite(if of_the_log { &self.path } else { to }, Some(&self.connection), error)
        })?;
        // What it finds is named as the log's, whose rows these are.
        let copy = Self::over(schema::open_immutable(draft.path())?, &self.path)?;
        let checked = copy.check(report)?;
        if checked.findings > 0 {
            return Ok(Backup::Damaged { findings: checked.findings });
        }
        let events = copy.stats()?.counts.events;
        drop(copy);
        draft.complete(to)?;
        Ok(Backup::Made { events })
    }

    fn copy_into(&self, draft: &Path) -> rusqlite::Result<()> {
        let name = ToSqlOutput::Borrowed(ValueRef::Text(draft.as_os_str().as_bytes()));
        // A reader that may write forbids itself to. The copy is written by the same connection.
        self.connection.pragma_update(None, "query_only", false)?;
        let copied = self.connection.execute("VACUUM INTO ?1", [name]).map(drop);
        self.connection.pragma_update(None, "query_only", true)?;
        copied
    }
}
