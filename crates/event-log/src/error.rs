//! Errors of the event log.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, ffi};
use thiserror::Error;

use crate::checksum::{DamagedRow, is_conversion_error};

/// Each variant names the file, what was found, what was wanted, and what to do. A call that returns an error has not
/// changed the log.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("{path}: there is no event log here; `run` creates one, or give the path of an existing one")]
    Missing { path: PathBuf },

    #[error(
        "{path}: not an event log of activity-stream: {found}; the file was not changed; give another path, or, if it \
         was a log, restore it from a backup"
    )]
    NotALog { path: PathBuf, found: String },

    #[error(
        "{path}: the event log is damaged: {found}; the file was not changed; restore it from a backup, or move it \
         away with its -wal and -shm files: `run` then rebuilds it from the commands that the topic retains"
    )]
    Damaged { path: PathBuf, found: String },

    #[error(
        "{path}: the event log has schema version {found}, this program supports versions up to {supported}; run the \
         newer program that wrote it"
    )]
    NewerSchema { path: PathBuf, found: i64, supported: i64 },

    #[error(
        "{path}: the event log belongs to topic `{found}`, wanted `{wanted}`; activity ids depend on the topic's \
         name: set the topic to `{found}`, or create another log for `{wanted}`"
    )]
    OtherTopic { path: PathBuf, found: String, wanted: String },

    #[error(
        "{lock}: locked: another process runs on the event log {path}; stop it, or give this process its own log"
    )]
    Locked { path: PathBuf, lock: PathBuf },

    #[error(
        "{path}: the event log has {links} names (hard links), but SQLite's -wal file belongs to only one of them; \
         remove the other names (`find DIR -samefile {path}` lists them), or give the path of a copy"
    )]
    HardLinked { path: PathBuf, links: u64 },

    #[error(
        "{path}: {found}; nothing was changed; give the path of a regular file in `log.path` (`--log-file FILE`)"
    )]
    NotAFile { path: PathBuf, found: &'static str },

    #[error(
        "{path}: the folder of the event log does not exist; create it (`mkdir -p {path}`), or give another path"
    )]
    NoFolder { path: PathBuf },

    #[error(
        "{path}: the processor's user can't write to it: {source}; nothing was changed; grant the user access, or give \
         another path"
    )]
    NotWritable { path: PathBuf, source: io::Error },

    #[error(
        "{path}: a file already exists here; nothing was changed; give a new name, or move the file away"
    )]
    Exists { path: PathBuf },

    #[error(
        "{path}: the suffix `{suffix}` is reserved for a file beside a database; nothing was changed; give the backup \
         another name"
    )]
    BackupName { path: PathBuf, suffix: &'static str },

    #[error(
        "{path}: removed or replaced while the event log was open: {found}; stopped publishing; restore the files of \
         {database}, or move the remaining ones away, and start again: `run` appends what is missing from the topic, if \
         the topic retains it"
    )]
    Moved { path: PathBuf, database: PathBuf, found: String },

    #[error(
        "{path}: another program has held the write lock on the database for {waited_ms} ms; nothing was changed; end \
         its transaction (`fuser {path}` lists the processes)"
    )]
    Busy { path: PathBuf, waited_ms: u64 },

    #[error(
        "{path}: not an instance id: found {found:?}, wanted a UUID; restore the file, or delete it to get a new id"
    )]
    BadInstance { path: PathBuf, found: String },

    #[error(
        "{path}: the disk is full ({reason}); nothing was changed; free some space, then try again (`run` retries by \
         itself)"
    )]
    DiskFull { path: PathBuf, reason: String },

    #[error(
        "partition {partition}: {what} is {found}, wanted {wanted}; nothing was appended; this is a bug in the program: \
         please report it"
    )]
    OutOfOrder { partition: i32, what: &'static str, found: i64, wanted: String },

    #[error(
        "{path}: SQLite: {source}: {system}; nothing was changed; check the disk and how it is mounted, then try again"
    )]
    Disk { path: PathBuf, source: rusqlite::Error, system: io::Error },

    #[error("{path}: {doing}: {source}")]
    Io { path: PathBuf, doing: &'static str, source: io::Error },

    #[error(
        "{path}: SQLite: {source}; nothing was changed; if this repeats, check the disk and the file's permissions"
    )]
    Sqlite { path: PathBuf, source: rusqlite::Error },
}

/// How long SQLite waits for another program's lock.
pub(crate) const BUSY_TIMEOUT_MS: u64 = 10_000;

impl LogError {
    pub(crate) fn damaged(path: &Path, found: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), found: found.into() }
    }

    pub(crate) fn io(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), doing, source }
    }

    /// Classifies an SQLite error. An I/O error needs the connection, to distinguish a full disk.
    pub(crate) fn sqlite(path: &Path, connection: Option<&Connection>, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, found: source.to_string() },
            Some(ErrorCode::NotADatabase) => Self::NotALog { path, found: source.to_string() },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Busy { path, waited_ms: BUSY_TIMEOUT_MS }
            }
            Some(ErrorCode::DiskFull) => Self::DiskFull { path, reason: "no space is left".to_owned() },
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
                match connection.and_then(system_error) {
                    Some(system) if is_no_space(&system) => {
                        Self::DiskFull { path, reason: system.to_string() }
                    }
                    Some(system) => Self::Disk { path, source, system },
                    None => Self::Sqlite { path, source },
                }
            }
            _ => match source {
                rusqlite::Error::FromSqlConversionFailure(_, _, cause) if cause.is::<DamagedRow>() => {
                    Self::Damaged { path, found: cause.to_string() }
                }
                source if is_conversion_error(&source) => Self::Damaged { path, found: source.to_string() },
                source => Self::Sqlite { path, source },
            },
        }
    }

    /// Whether the same call can succeed later: after somebody freed disk space, or another program's transaction ended.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::DiskFull { .. } | Self::Busy { .. } => true,
            Self::Io { source, .. } => is_no_space(source),
            _ => false,
        }
    }
}

/// The operating system's error behind the connection's last I/O error.
fn system_error(connection: &Connection) -> Option<io::Error> {
    // SAFETY: the handle is valid as long as the connection lives, and the call only reads a field of it.
    let errno = unsafe { ffi::sqlite3_system_errno(connection.handle()) };
    (errno != 0).then(|| io::Error::from_raw_os_error(errno))
}

/// SQLite returns `SQLITE_FULL` only for a failed write. A failed fsync, a -shm file that can't grow, or a file at its
/// size limit (`ulimit -f`, the file system's maximum) is an I/O error.
fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;

    #[test]
    fn a_full_disk_is_transient_and_a_broken_one_is_not() {
        let failed = |errno| {
            let source = io::Error::from_raw_os_error(errno);
            LogError::Io { path: "activity.db".into(), doing: "writing", source }
        };
        for errno in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG] {
            assert!(failed(errno).is_passing(), "{errno}");
        }
        // A file system that turned read-only, or a broken disk, may have lost flushed pages. The next start checks them.
        for errno in [libc::EROFS, libc::EIO, libc::EACCES] {
            assert!(!failed(errno).is_passing(), "{errno}");
        }
    }

    #[test]
    fn an_io_error_contains_the_operating_systems_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none/activity.db");
        let connection = Connection::open_in_memory().unwrap();
        connection.execute("ATTACH ?1 AS other", [path.to_str().unwrap()]).unwrap_err();
        let error = connection.execute("ATTACH ?1 AS other", [path.to_str().unwrap()]).unwrap_err();
        let error = LogError::sqlite(&path, Some(&connection), error);
        assert!(matches!(error, LogError::Disk { .. }), "{error:?}");
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
