//! Backups, which can be made while a processor writes the log.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::check::{CheckError, CheckReport};
use crate::draft::Draft;
use crate::error::LogError;
use crate::files::{self, with_suffix};
use crate::reader::LogReader;
use crate::schema;

/// Suffixes of the files beside a database. SQLite or the next start would mistake a backup with such a name for one.
const RESERVED_SUFFIXES: [&str; 5] = ["-wal", "-shm", "-journal", "-instance", "-read-model"];

/// The result of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Backup {
    Made {
        events: u64,
    },
    /// The log is damaged, so no backup was made: under that name there are only sound logs.
    Damaged {
        findings: u64,
    },
}

impl LogReader {
    /// Copies the log to a new file, which gets its name when it is complete, checked and flushed.
    ///
    /// `VACUUM INTO` reads in one transaction. SQLite's backup API, which the shell's `.backup` uses, restarts after each
    /// write to the log, so it never ends while a writer is busy.
    pub fn back_up(&self, to: &Path, report: &mut dyn CheckReport) -> Result<Backup, CheckError> {
        let name = to.as_os_str().as_bytes();
        if let Some(suffix) = RESERVED_SUFFIXES.into_iter().find(|suffix| name.ends_with(suffix.as_bytes())) {
            return Err(LogError::BackupName { path: to.to_owned(), suffix }.into());
        }
        // SQLite would replay the remains of another log with this name onto the copy.
        for taken in [to.to_owned(), with_suffix(to, "-wal"), with_suffix(to, "-journal")] {
            if files::find(&taken)?.is_some() {
                return Err(LogError::Exists { path: taken }.into());
            }
        }
        let draft = Draft::beside(to)?;
        self.copy_into(draft.path()).map_err(|error| {
            let of_the_log = error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt);
            LogError::sqlite(if of_the_log { &self.path } else { to }, Some(&self.connection), error)
        })?;
        // Findings name the log, whose rows these are.
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
        // The copy is written by the same connection, which `over` has forbidden to write.
        self.connection.pragma_update(None, "query_only", false)?;
        let copied = self.connection.execute("VACUUM INTO ?1", [name]).map(drop);
        self.connection.pragma_update(None, "query_only", true)?;
        copied
    }
}
