//! The files of a log: which may be opened, the lock on the database itself, and whether they are still in place.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use super::LogError;
use super::instance::beside;
use super::writer::WAL_LIMIT;

/// Of new files, less what the umask takes away.
pub(super) const MODE: u32 = 0o640;

/// The file at `path`, which may be a link; `None` where there is none.
///
/// Anything but a regular file is refused before it is opened: opening a FIFO waits for its other end, and
/// opening a device can act on it.
pub fn find(path: &Path) -> Result<Option<Metadata>, LogError> {
    let not_a_file = |found| Err(LogError::NotAFile { path: path.to_owned(), found });
    let name = path.as_os_str().as_bytes();
    // SQLite gives these names a meaning of its own.
    if name.is_empty() || name.ends_with(b"/") || name == b":memory:" || name.starts_with(b"file:") {
        return not_a_file("is not the path of a file");
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(metadata) => not_a_file(kind(metadata.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => not_a_file("is a symbolic link to a file that does not exist"),
            Err(_) => Ok(None),
        },
        Err(source) => Err(LogError::Io { path: path.to_owned(), doing: "looking for the file", source }),
    }
}

/// As [`find`], of a file that the program makes itself: a link is refused too.
pub(super) fn find_own(path: &Path) -> Result<Option<Metadata>, LogError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => {
            Err(LogError::NotAFile { path: path.to_owned(), found: "is a symbolic link" })
        }
        _ => find(path),
    }
}

fn kind(found: FileType) -> &'static str {
    if found.is_dir() {
        "is a directory"
    } else if found.is_fifo() {
        "is a FIFO"
    } else if found.is_socket() {
        "is a socket"
    } else {
        "is a device"
    }
}

/// By its real name, so that a second process finds the same lock through a link.
pub(super) fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The folder that the file is in.
pub(super) fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Opens for reading what was a regular file a moment ago. A FIFO that took its place does not block.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Opens a file of the program's own for reading and writing, and makes it where it is missing.
pub(super) fn open_own(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// Not only while processes use both names: appends that a crash left in the -wal file of one are missing under the other.
pub(super) fn refuse_hard_links(path: &Path, database: &Metadata) -> Result<(), LogError> {
    match database.nlink() {
        links @ 2.. => Err(LogError::HardLinked { path: path.to_owned(), links }),
        _ => Ok(()),
    }
}

/// The lock on the database's inode, under whatever name a process opened it. The lock on the instance file
/// goes by path, as SQLite's -wal and -shm do: two names of one database would be two logs in one file.
///
/// It belongs to the open file (`F_OFD_SETLK`), not to the process, and lies where SQLite never locks. Closing it ends
/// the locks of all connections of the process to the file, so it is opened before them and closed after them.
/// <https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>
#[derive(Debug)]
pub(super) struct InodeLock(File);

impl InodeLock {
    pub(super) fn take(path: &Path) -> Result<Self, LogError> {
        let io = |source| LogError::Io { path: path.to_owned(), doing: "locking the database", source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let lock = Self(options.open(path).map_err(io)?);
        if !lock.set(true).map_err(io)? {
            return Err(LogError::Locked { path: path.to_owned(), lock: path.to_owned() });
        }
        refuse_hard_links(path, &lock.0.metadata().map_err(io)?)?;
        Ok(lock)
    }

    /// Whether nobody else has it.
    #[cfg(target_os = "linux")]
    fn set(&self, locked: bool) -> io::Result<bool> {
        use nix::{
            errno::Errno,
            fcntl::{FcntlArg, fcntl},
        };
        let first_byte = libc::flock {
            l_type: (if locked { libc::F_WRLCK } else { libc::F_UNLCK }) as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 1,
            l_pid: 0,
        };
        match fcntl(&self.0, FcntlArg::F_OFD_SETLK(&first_byte)) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Elsewhere there are no such locks, and `flock` would keep SQLite out: hard links are refused, and that is all.
    #[cfg(not(target_os = "linux"))]
    fn set(&self, _: bool) -> io::Result<bool> {
        Ok(true)
    }
}

impl Drop for InodeLock {
    fn drop(&mut self) {
        // A child process that is being started has inherited the open file, and the lock with it.
        let _ = self.set(false);
    }
}

/// What an open log consists of, so that somebody can look whether it is still there.
#[derive(Debug, Clone)]
pub struct LogFiles {
    database: PathBuf,
    /// Each with device and inode.
    open: Vec<(PathBuf, (u64, u64))>,
}

impl LogFiles {
    /// Of a log that has just been opened.
    pub(super) fn of(database: &Path, lock: &InodeLock) -> Result<Self, LogError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| LogError::Io { path, doing: "looking at the log's files", source }
        };
        let locked = lock.0.metadata().map_err(io(database))?;
        let mut open = vec![(database.to_owned(), identity(&locked))];
        for suffix in ["-wal", "-shm", "-instance"] {
            let path = beside(database, suffix);
            let metadata = fs::symlink_metadata(&path).map_err(io(&path))?;
            open.push((path, identity(&metadata)));
        }
        Ok(Self { database: database.to_owned(), open })
    }

    /// An error where one of them was removed or replaced: what is appended then is nowhere. An instance file that was
    /// emptied is none: the lock holds, and the next start takes a new id, as beside a backup.
    pub fn check(&self) -> Result<(), LogError> {
        for (path, opened) in &self.open {
            let found = match fs::symlink_metadata(path) {
                Ok(metadata) if identity(&metadata) == *opened => continue,
                Ok(_) => "another file has taken its place".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(LogError::Moved { path: path.clone(), database: self.database.clone(), found });
        }
        Ok(())
    }

    /// Of the -wal file; `None` where that is gone.
    #[must_use]
    pub fn wal_bytes(&self) -> Option<u64> {
        fs::metadata(beside(&self.database, "-wal")).ok().map(|wal| wal.len())
    }

    /// How large the -wal file becomes by appends alone.
    #[must_use]
    pub fn usual_wal_bytes() -> u64 {
        WAL_LIMIT
    }

    #[must_use]
    pub fn database(&self) -> &Path {
        &self.database
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
