//! A new database under a name of its own, until it is complete.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use super::instance::{beside, sync_directory};
use super::{LogError, files};

/// An empty file beside the one that it becomes; others may not read it, nor the -wal and -shm files that SQLite makes
/// with its mode. It goes with the value. A killed process leaves it, and nobody deletes it then: a name tells too little
/// about whose a file is.
#[derive(Debug)]
pub struct Draft {
    file: NamedTempFile,
    _beside: Beside,
}

impl Draft {
    /// Named as nothing else is, so that no file is in its way, and no second draft: `activity.db-draft-` and letters.
    pub fn beside(wanted: &Path) -> Result<Self, LogError> {
        let mut prefix = wanted.file_name().unwrap_or_default().to_owned();
        prefix.push("-draft-");
        let file = Builder::new()
            .prefix(&prefix)
            .rand_bytes(12)
            .permissions(Permissions::from_mode(files::MODE))
            .tempfile_in(files::folder(wanted))
            .map_err(|source| failed(wanted, "making the file", source))?;
        let _beside = Beside(file.path().to_owned());
        Ok(Self { file, _beside })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Flushes it and gives it its name, if no file has that.
    pub fn complete(self, wanted: &Path) -> Result<(), LogError> {
        self.name(wanted, |_| false)
    }

    /// As [`complete`](Self::complete); an empty file is replaced.
    pub fn complete_over_empty(self, wanted: &Path) -> Result<(), LogError> {
        let is_empty =
            |found: &Path| fs::symlink_metadata(found).is_ok_and(|found| found.is_file() && found.len() == 0);
        self.name(wanted, is_empty)
    }

    /// By the descriptor that made it: what stands at a path may be another file by now.
    fn name(self, wanted: &Path, may_replace: impl FnOnce(&Path) -> bool) -> Result<(), LogError> {
        let flushed = self.file.as_file().sync_all();
        flushed.map_err(|source| failed(wanted, "flushing the file", source))?;
        let named = self.file.persist_noclobber(wanted).or_else(|taken| {
            let replace = taken.error.kind() == io::ErrorKind::AlreadyExists && may_replace(wanted);
            if replace { taken.file.persist(wanted) } else { Err(taken) }
        });
        named.map_err(|taken| match taken.error.kind() {
            io::ErrorKind::AlreadyExists => LogError::Exists { path: wanted.to_owned() },
            _ => failed(wanted, "naming the file", taken.error),
        })?;
        sync_directory(wanted)
    }
}

fn failed(wanted: &Path, doing: &'static str, source: io::Error) -> LogError {
    LogError::Io { path: wanted.to_owned(), doing, source }
}

/// What SQLite may leave beside a draft where it fails.
#[derive(Debug)]
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        for suffix in ["-journal", "-wal", "-shm"] {
            // That it can't be deleted is not what went wrong.
            let _ = fs::remove_file(beside(&self.0, suffix));
        }
    }
}
