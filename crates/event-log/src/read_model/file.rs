//! Whose file is at the read model's path, and whether it is still in place.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;

use crate::error::LogError;
use crate::files::{self, Header, Identity, identity, with_suffix};
use crate::read_model::ReadModelError;

/// `AcRm`. <https://sqlite.org/pragma.html#pragma_application_id>
pub(super) const APPLICATION_ID: u32 = 0x4163_526d;

/// The database, and the files that SQLite keeps beside it.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// The read model's file; `None` if it is missing or empty. Returns an error if a file is certainly not the read model's,
/// before SQLite, which follows links, writes to it or beside it.
pub(super) fn inspect(path: &Path) -> Result<Option<Identity>, ReadModelError> {
    for path in with_suffixes(path).into_iter().chain([with_suffix(path, "-journal")]) {
        files::find_own(&path).map_err(|error| match error {
            LogError::NotAFile { path, found } => ReadModelError::Foreign { path, found },
            error => error.into(),
        })?;
    }
    let read = || -> io::Result<_> {
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        Ok((file.metadata()?, Header::read(&file)?))
    };
    match read() {
        Ok((metadata, _)) if metadata.len() == 0 => Ok(None),
        Ok((metadata, Some(header))) if header.application_id() == APPLICATION_ID => {
            Ok(Some(identity(&metadata)))
        }
        Ok(_) => Err(ReadModelError::Foreign { path: path.to_owned(), found: "is not a read model" }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => {
            let doing = "reading the read model's header";
            Err(ReadModelError::Io { path: path.to_owned(), doing, source })
        }
    }
}

/// The identities of an open model's files. They prove something only if it was just opened.
pub(super) fn identities(path: &Path) -> [Option<Identity>; 3] {
    with_suffixes(path).map(|path| fs::symlink_metadata(path).ok().map(|found| identity(&found)))
}

/// Deletes a read model or an empty file; returns an error for any other file.
pub(super) fn delete(path: &Path) -> Result<(), ReadModelError> {
    inspect(path)?;
    for path in with_suffixes(path) {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(ReadModelError::Io { path, doing: "deleting the read model", source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn with_suffixes(path: &Path) -> [PathBuf; 3] {
    SUFFIXES.map(|suffix| with_suffix(path, suffix))
}
