//! A copy of a log while a processor writes it.

use std::fs;
use std::io;
use std::path::Path;

use super::instance::{beside, sync_directory};
use super::{LogError, LogReader, files};

impl LogReader {
    /// Copies one state of the log to a new file, which gets its name when it is complete and flushed.
    ///
    /// `VACUUM INTO` reads in one transaction. SQLite's backup interface, by which the shell's `.backup` copies some
    /// pages at a time, begins again whenever somebody has written in between, so it never ends beside a busy writer.
    pub fn back_up(&self, to: &Path) -> Result<(), LogError> {
        // Appends to another log that had this name would be replayed onto the copy.
        for taken in [to.to_owned(), beside(to, "-wal")] {
            if files::find(&taken)?.is_some() {
                return Err(LogError::Exists { path: taken });
            }
        }
        let draft = beside(to, "-new");
        let doing = |doing| {
            let path = draft.clone();
            move |source| LogError::Io { path, doing, source }
        };
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(doing("deleting an unfinished backup")(error));
            }
            _ => {}
        }
        files::make_private(&draft).map_err(doing("making the backup"))?;
        let copied = self
            .copy_into(&draft)
            .map_err(|error| LogError::sqlite(&draft, Some(&self.connection), error))
            .and_then(|()| {
                files::open(&draft).and_then(|copy| copy.sync_all()).map_err(doing("flushing the backup"))
            })
            .and_then(|()| fs::rename(&draft, to).map_err(doing("naming the backup")));
        if copied.is_err() {
            // What is left of it helps nobody; that it can't be deleted is not what went wrong.
            let _ = fs::remove_file(&draft);
        }
        copied?;
        sync_directory(to)
    }

    fn copy_into(&self, draft: &Path) -> rusqlite::Result<()> {
        let name = draft.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(draft.to_owned()))?;
        // A reader that may write forbids itself to. The copy is written by the same connection.
        self.connection.pragma_update(None, "query_only", false)?;
        let copied = self.connection.execute("VACUUM INTO ?1", [name]).map(drop);
        self.connection.pragma_update(None, "query_only", true)?;
        copied
    }
}
