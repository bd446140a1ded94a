//! What can keep a writer from opening the log: asked of the files before anything is made or changed, by the writer and
//! by whoever wants to know what it would do.

use std::io;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::instance::{self, beside};
use super::schema::{self, Presence};
use super::{LogError, files};

/// Refuses files that no writer may have; whether there is a log at all. A process that has the log open hinders nothing.
pub fn examine_files(path: &Path) -> Result<bool, LogError> {
    let path = &files::real(path);
    let presence = schema::inspect(path)?;
    if presence == Presence::Log
        && let Some(database) = files::find(path)?
    {
        files::refuse_hard_links(path, &database)?;
    }
    instance::examine(path)?;
    Ok(presence == Presence::Log)
}

/// Refuses a folder or a file that this user can't write to, and file systems that are mounted read-only.
pub fn check_writable(path: &Path) -> Result<(), LogError> {
    let path = &files::real(path);
    let folder = files::folder(path);
    if !folder.is_dir() {
        return Err(LogError::NoFolder { path: folder.to_owned() });
    }
    may(folder, AccessFlags::W_OK | AccessFlags::X_OK)?;
    ["", "-wal", "-shm", "-instance"]
        .iter()
        .try_for_each(|suffix| may(&beside(path, suffix), AccessFlags::R_OK | AccessFlags::W_OK))
}

fn may(path: &Path, wanted: AccessFlags) -> Result<(), LogError> {
    match access(path, wanted).map_err(io::Error::from) {
        // It is made then.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(LogError::NotWritable { path: path.to_owned(), source }),
        Ok(()) => Ok(()),
    }
}
