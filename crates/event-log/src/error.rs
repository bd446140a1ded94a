//! Why the log could not do what was asked.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, ffi};
use thiserror::Error;

use super::DamagedRow;

/// Each variant says which file, what was found, what was wanted, and what to do about it. After any of
/// them the log is as it was before the call.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("{path}: there is no event log here; `run` makes one, or give the path of an existing one")]
    Missing { path: PathBuf },

    #[error(
        "{path}: not an event log of activity-stream: {found}; the file was left as it is; give another path, \
         or, if it was a log, restore it from a backup"
    )]
    NotALog { path: PathBuf, found: String },

    #[error(
        "{path}: the event log is damaged: {found}; it was left as it is; restore it from a backup, or move it \
         away with its -wal and -shm files: a log that lacks the past fills up again from what the topic retains"
    )]
    Damaged { path: PathBuf, found: String },

    #[error(
        "{path}: the event log has schema version {found}, this program knows versions up to {known}; run the \
         newer program that wrote it"
    )]
    NewerSchema { path: PathBuf, found: i64, known: i64 },

    #[error(
        "{path}: the event log belongs to topic `{found}`, wanted `{wanted}`; activity ids depend on the topic's \
         name: set the topic to `{found}`, or start another log for `{wanted}`"
    )]
    OtherTopic { path: PathBuf, found: String, wanted: String },

    #[error(
        "{lock}: locked: another process runs on the event log {path}; stop it, or give this one a log of its own"
    )]
    Locked { path: PathBuf, lock: PathBuf },

    #[error(
        "{path}: the event log has {links} names (hard links), and the appends that SQLite keeps in a -wal file belong \
         to one of them; remove the other names (`find DIR -samefile {path}` lists them), or give the path of a copy"
    )]
    HardLinked { path: PathBuf, links: u64 },

    #[error(
        "{path}: {found}; nothing was changed; give the path of a regular file in `log.path` (`--log-file FILE`)"
    )]
    NotAFile { path: PathBuf, found: &'static str },

    #[error(
        "{path}: the folder of the event log does not exist; make it (`mkdir -p {path}`), or give another path"
    )]
    NoFolder { path: PathBuf },

    #[error(
        "{path}: the processor's user can't write to it: {source}; nothing was changed; let it write there, or give \
         another path"
    )]
    NotWritable { path: PathBuf, source: io::Error },

    #[error(
        "{path}: a file already exists here; nothing was changed; give a new name, or move the file away"
    )]
    Exists { path: PathBuf },

    #[error(
        "{path}: a file whose name ends in `{suffix}` belongs to the database whose name stands before it; nothing was \
         changed; give the backup another name"
    )]
    BackupName { path: PathBuf, suffix: &'static str },

    #[error(
        "{path}: removed or replaced while the event log was open: {found}; stopped publishing; put back the files \
         of {database}, or move the rest of them away, and start again: what the log lacks is read from the topic, as \
         far as that retains it"
    )]
    Moved { path: PathBuf, database: PathBuf, found: String },

    #[error(
        "{path}: another program has held the write lock on the database for {waited_ms} ms; nothing was changed; end \
         its transaction (`fuser {path}` lists the processes)"
    )]
    Busy { path: PathBuf, waited_ms: u64 },

    #[error(
        "{path}: not an instance id: found {found:?}, wanted a UUID; put back what it held, or delete it: a new id is \
         then made"
    )]
    BadInstance { path: PathBuf, found: String },

    #[error(
        "{path}: the disk is full ({reason}); nothing was changed; free some space, then try again (`run` does so itself)"
    )]
    DiskFull { path: PathBuf, reason: String },

    #[error(
        "partition {partition}: {what} is {found}, wanted {wanted}; nothing was appended: the caller is wrong, which \
         is a fault of the program: report it"
    )]
    OutOfOrder { partition: i32, what: &'static str, found: i64, wanted: Wanted },

    #[error(
        "{path}: SQLite: {source}: {system}; nothing was changed; check the disk and how it is mounted, then try again"
    )]
    Disk { path: PathBuf, source: rusqlite::Error, system: io::Error },

    #[error("{path}: {doing}: {source}")]
    Io { path: PathBuf, doing: &'static str, source: io::Error },

    #[error(
        "{path}: SQLite: {source}; nothing was changed; if it comes again, check the disk and the file's permissions"
    )]
    Sqlite { path: PathBuf, source: rusqlite::Error },
}

/// What a number was wanted to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Exactly(i64),
    AtLeast(i64),
    MoreThan(i64),
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(number) => write!(f, "{number}"),
            Self::AtLeast(number) => write!(f, "at least {number}"),
            Self::MoreThan(number) => write!(f, "more than {number}"),
        }
    }
}

/// How long SQLite waits for another program's lock.
pub(super) const BUSY_TIMEOUT_MS: u64 = 10_000;

impl LogError {
    pub(super) fn damaged(path: &Path, found: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), found: found.into() }
    }

    /// Names an SQLite error. `connection` tells a full disk from other I/O errors, where there is one.
    pub(super) fn sqlite(path: &Path, connection: Option<&Connection>, source: rusqlite::Error) -> Self {
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
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..) => {
                    Self::Damaged { path, found: source.to_string() }
                }
                _ => Self::Sqlite { path, source },
            },
        }
    }

    /// Whether the same call can be expected to succeed when somebody has made room, or ended a transaction.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::DiskFull { .. } | Self::Busy { .. } => true,
            Self::Io { source, .. } => is_no_space(source),
            _ => false,
        }
    }
}

/// The last error of the operating system that the connection met.
fn system_error(connection: &Connection) -> Option<io::Error> {
    // SAFETY: the handle is valid as long as the connection lives, and the call only reads a field of it.
    let errno = unsafe { ffi::sqlite3_system_errno(connection.handle()) };
    (errno != 0).then(|| io::Error::from_raw_os_error(errno))
}

/// SQLite names a failed write `SQLITE_FULL`, but a failed fsync or growth of the -shm file only an I/O error, and so a
/// file that may not grow any more (`ulimit -f`, or what the file system allows).
fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;

    #[test]
    fn waits_for_room_and_not_for_a_broken_disk() {
        let failed = |errno| {
            let source = io::Error::from_raw_os_error(errno);
            LogError::Io { path: "activity.db".into(), doing: "writing", source }
        };
        for errno in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG] {
            assert!(failed(errno).is_passing(), "{errno}");
        }
        // Read-only, because of an error perhaps, or broken: what was flushed is in doubt, and a start looks at it again.
        for errno in [libc::EROFS, libc::EIO, libc::EACCES] {
            assert!(!failed(errno).is_passing(), "{errno}");
        }
    }

    #[test]
    fn an_io_error_names_the_reason_of_the_operating_system() {
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
