//! Checks whether a writer can open the log, without changing anything.

use std::io;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::error::LogError;
use crate::files::{self, with_suffix};
use crate::instance::has_instance_id;
use crate::schema::{self, Presence};

/// Returns whether the log exists, or an error if a writer would refuse its files. The log may be in use.
pub fn examine_files(path: &Path) -> Result<bool, LogError> {
    let path = &files::canonical(path);
    let presence = schema::inspect(path)?;
    if presence == Presence::Log
        && let Some(database) = files::find(path)?
    {
        files::refuse_hard_links(path, &database)?;
    }
    has_instance_id(path)?;
    Ok(presence == Presence::Log)
}

/// Returns an error if this user can't write to the folder or a file, or the file system is mounted read-only.
pub fn check_writable(path: &Path) -> Result<(), LogError> {
    let path = &files::canonical(path);
    let folder = files::folder(path);
    if !folder.is_dir() {
        return Err(LogError::NoFolder { path: folder.to_owned() });
    }
    require_access(folder, AccessFlags::W_OK | AccessFlags::X_OK)?;
    ["", "-wal", "-shm", "-instance"].iter().try_for_each(|suffix| {
        require_access(&with_suffix(path, suffix), AccessFlags::R_OK | AccessFlags::W_OK)
    })
}

fn require_access(path: &Path, wanted: AccessFlags) -> Result<(), LogError> {
    match access(path, wanted).map_err(io::Error::from) {
        // The writer creates it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(LogError::NotWritable { path: path.to_owned(), source }),
        Ok(()) => Ok(()),
    }
}
