//! Whose the file at the read model's path is, and whether it is still in place.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::libc;

use super::ReadModelError;

/// `AcRm`. <https://sqlite.org/pragma.html#pragma_application_id>
pub(super) const APPLICATION_ID: u32 = 0x4163_526d;

/// Device and inode.
pub(super) type Identity = (u64, u64);

/// Of the read model's database, and of what SQLite keeps beside it.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// The read model at the path; `None` where there is none, or an empty file. Whatever isn't surely one is refused: it is
/// looked at before SQLite is, which writes to a database and beside it, and through no link.
pub(super) fn inspect(path: &Path) -> Result<Option<Identity>, ReadModelError> {
    let foreign = |path: &Path, found| {
        let path = path.to_owned();
        Err(ReadModelError::Foreign { path, found })
    };
    let mut database = None;
    for path in SUFFIXES.iter().chain(&["-journal"]).map(|suffix| beside(path, suffix)) {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => return foreign(&path, "is a symbolic link"),
            Ok(found) if !found.is_file() => return foreign(&path, "is not a regular file"),
            Ok(found) => _ = database.get_or_insert((path, found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(ReadModelError::Io { path, doing: "looking for the read model", source });
            }
        }
    }
    if !database.is_some_and(|(found, bytes)| found == path && bytes > 0) {
        return Ok(None);
    }
    let mut header = Vec::with_capacity(100);
    let mut read = || {
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        (&file).take(100).read_to_end(&mut header)?;
        file.metadata()
    };
    let metadata = read().map_err(|source| {
        let path = path.to_owned();
        ReadModelError::Io { path, doing: "reading the read model's header", source }
    })?;
    // <https://sqlite.org/fileformat.html#the_database_header>
    if !header.starts_with(b"SQLite format 3\0") || header.get(68..72) != Some(&APPLICATION_ID.to_be_bytes())
    {
        return foreign(path, "is not a read model");
    }
    Ok(Some(identity(&metadata)))
}

/// What the files of an open model are; of one that was opened just now.
pub(super) fn identities(path: &Path) -> [Option<Identity>; 3] {
    SUFFIXES.map(|suffix| fs::symlink_metadata(beside(path, suffix)).ok().map(|found| identity(&found)))
}

/// Deletes what [`inspect`] takes for a read model, or an empty file.
pub(super) fn delete(path: &Path) -> Result<(), ReadModelError> {
    inspect(path)?;
    for path in SUFFIXES.map(|suffix| beside(path, suffix)) {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(ReadModelError::Io { path, doing: "deleting the read model", source });
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}
