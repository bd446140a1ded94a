//! A new database under a temporary name until it is complete.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::LogError;
use crate::files;

/// An empty file beside the one that it becomes. Its mode, which SQLite gives to its -wal and -shm files too, protects it
/// from others. It is deleted when it is dropped. A killed process leaves it behind, and nothing deletes it then, since a
/// name does not prove whose file it is.
#[derive(Debug)]
pub(crate) struct Draft {
    file: NamedTempFile,
    _companions: Companions,
}

impl Draft {
    /// Creates `activity.db-draft-` and random letters, which no other file is called.
    pub(crate) fn beside(wanted: &Path) -> Result<Self, LogError> {
        let mut prefix = wanted.file_name().unwrap_or_default().to_owned();
        prefix.push("-draft-");
        let file = Builder::new()
            .prefix(&prefix)
            .rand_bytes(12)
            .permissions(Permissions::from_mode(files::MODE))
            .tempfile_in(files::folder(wanted))
            .map_err(LogError::io(wanted, "creating the file"))?;
        let _companions = Companions(file.path().to_owned());
        Ok(Self { file, _companions })
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Flushes the file and renames it. Returns an error if another file has that name.
    pub(crate) fn complete(self, wanted: &Path) -> Result<(), LogError> {
        self.rename(wanted, |_| false)
    }

    /// Like [`complete`](Self::complete), but replaces an empty file.
    pub(crate) fn complete_over_empty(self, wanted: &Path) -> Result<(), LogError> {
        let is_empty =
            |found: &Path| fs::symlink_metadata(found).is_ok_and(|found| found.is_file() && found.len() == 0);
        self.rename(wanted, is_empty)
    }

    fn rename(self, wanted: &Path, may_replace: impl FnOnce(&Path) -> bool) -> Result<(), LogError> {
        // By the descriptor: another file may be at the path by now.
        self.file.as_file().sync_all().map_err(LogError::io(wanted, "flushing the file"))?;
        let named = self.file.persist_noclobber(wanted).or_else(|taken| {
            let replace = taken.error.kind() == io::ErrorKind::AlreadyExists && may_replace(wanted);
            if replace { taken.file.persist(wanted) } else { Err(taken) }
        });
        named.map_err(|taken| match taken.error.kind() {
            io::ErrorKind::AlreadyExists => LogError::Exists { path: wanted.to_owned() },
            _ => LogError::io(wanted, "renaming the file")(taken.error),
        })?;
        files::sync_folder(wanted)
    }
}

/// The files that SQLite may leave beside a draft if it fails.
#[derive(Debug)]
struct Companions(PathBuf);

impl Drop for Companions {
    fn drop(&mut self) {
        for suffix in ["-journal", "-wal", "-shm"] {
            // Usually there are none. If deleting one fails, that is not the error to report.
            let _ = fs::remove_file(files::with_suffix(&self.0, suffix));
        }
    }
}
