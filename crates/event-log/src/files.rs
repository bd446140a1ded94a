//! The files of a log: which may be opened, the lock on the database, and whether they are still in place.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use crate::error::LogError;
use crate::writer::WAL_LIMIT;

/// The mode of new files, before the umask.
pub(crate) const MODE: u32 = 0o640;

/// The metadata of a regular file or a link to one; `None` if there is none.
///
/// Other kinds of files must not even be opened: opening a FIFO blocks, and opening a device can have effects.
pub fn find(path: &Path) -> Result<Option<Metadata>, LogError> {
    let not_a_file = |found| Err(LogError::NotAFile { path: path.to_owned(), found });
    let name = path.as_os_str().as_bytes();
    // These names have a special meaning for SQLite.
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
        Err(error) => Err(LogError::io(path, "looking for the file")(error)),
    }
}

/// Like [`find`], for a file that only this program creates: it must not be a link.
pub(crate) fn find_own(path: &Path) -> Result<Option<Metadata>, LogError> {
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

/// Resolves links, so that all processes find the same lock.
pub(crate) fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// `activity.db` and `-wal` become `activity.db-wal`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A new directory entry survives power loss only after the directory was flushed.
pub(crate) fn sync_folder(file: &Path) -> Result<(), LogError> {
    let folder = folder(file);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(LogError::io(folder, "flushing the directory"))
}

pub(crate) fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Opens a file for reading after [`find`] saw it. Doesn't block if a FIFO has replaced it since.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Opens a file that only this program creates, for reading and writing, and creates it if it is missing.
pub(crate) fn open_own(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// The header of an SQLite database. <https://sqlite.org/fileformat.html#the_database_header>
pub(crate) struct Header([u8; 100]);

impl Header {
    /// `None` if the file does not begin with a header.
    pub(crate) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = Vec::with_capacity(100);
        file.take(100).read_to_end(&mut bytes)?;
        let header =
            bytes.try_into().ok().filter(|header: &[u8; 100]| header.starts_with(b"SQLite format 3\0"));
        Ok(header.map(Self))
    }

    pub(crate) fn application_id(&self) -> u32 {
        self.number(68)
    }

    pub(crate) fn user_version(&self) -> u32 {
        self.number(60)
    }

    /// The bytes of all pages.
    pub(crate) fn database_bytes(&self) -> u64 {
        let page = match u16::from_be_bytes([self.0[16], self.0[17]]) {
            // 65,536 does not fit.
            1 => 65_536,
            page => u64::from(page),
        };
        page * u64::from(self.number(28))
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

/// Two names are a danger even to a single process: after a crash, appends in the -wal file beside one name are missing
/// under the other.
pub(crate) fn refuse_hard_links(path: &Path, database: &Metadata) -> Result<(), LogError> {
    match database.nlink() {
        links @ 2.. => Err(LogError::HardLinked { path: path.to_owned(), links }),
        _ => Ok(()),
    }
}

/// A lock on the database's inode, whatever name a process opened it by. The lock on the instance file belongs to a path,
/// and so do SQLite's -wal and -shm files: under two names, one database would be two logs in one file.
///
/// The lock belongs to the open file (`F_OFD_SETLK`), not to the process, and to a byte that SQLite never locks. Closing
/// the file releases the locks of all the process's connections to it, so open it before them and close it after them.
/// <https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>
#[derive(Debug)]
pub(crate) struct InodeLock(File);

impl InodeLock {
    pub(crate) fn take(path: &Path) -> Result<Self, LogError> {
        let io = LogError::io(path, "locking the database");
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let lock = Self(options.open(path).map_err(&io)?);
        if !lock.set(true).map_err(&io)? {
            return Err(LogError::Locked { path: path.to_owned(), lock: path.to_owned() });
        }
        refuse_hard_links(path, &lock.0.metadata().map_err(io)?)?;
        Ok(lock)
    }

    /// Returns false if another process has the lock.
    #[cfg(target_os = "linux")]
    fn set(&self, locked: bool) -> io::Result<bool> {
        use nix::errno::Errno;
        use nix::fcntl::{FcntlArg, fcntl};
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

    /// Other systems lack such locks, and `flock` would lock SQLite out. There, only hard links are refused.
    #[cfg(not(target_os = "linux"))]
    fn set(&self, _: bool) -> io::Result<bool> {
        Ok(true)
    }
}

impl Drop for InodeLock {
    fn drop(&mut self) {
        // A child process between fork and exec has inherited the open file, and the lock with it.
        let _ = self.set(false);
    }
}

/// Device and inode.
pub(crate) type Identity = (u64, u64);

pub(crate) fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// The files of an open log, to check that they are still in place.
#[derive(Debug, Clone)]
pub struct LogFiles {
    database: PathBuf,
    opened: Vec<(PathBuf, Identity)>,
}

impl LogFiles {
    /// Call it when the log has just been opened.
    pub(crate) fn of(database: &Path, lock: &InodeLock) -> Result<Self, LogError> {
        let doing = "looking at the log's files";
        let locked = lock.0.metadata().map_err(LogError::io(database, doing))?;
        let mut opened = vec![(database.to_owned(), identity(&locked))];
        for suffix in ["-wal", "-shm", "-instance"] {
            let path = with_suffix(database, suffix);
            let metadata = fs::symlink_metadata(&path).map_err(LogError::io(&path, doing))?;
            opened.push((path, identity(&metadata)));
        }
        Ok(Self { database: database.to_owned(), opened })
    }

    /// Returns an error if a file was removed or replaced: appends are lost then. An instance file that was truncated is
    /// no error: the lock still holds, and the next start takes a new id, as it does for a restored backup.
    pub fn check(&self) -> Result<(), LogError> {
        for (path, opened) in &self.opened {
            let found = match fs::symlink_metadata(path) {
                Ok(metadata) if identity(&metadata) == *opened => continue,
                Ok(_) => "another file has taken its place".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(LogError::Moved { path: path.clone(), database: self.database.clone(), found });
        }
        Ok(())
    }

    /// The size of the -wal file; `None` if it was removed.
    #[must_use]
    pub fn wal_bytes(&self) -> Option<u64> {
        fs::metadata(with_suffix(&self.database, "-wal")).ok().map(|wal| wal.len())
    }

    /// The largest size of the -wal file while SQLite can checkpoint.
    #[must_use]
    pub fn usual_wal_bytes() -> u64 {
        WAL_LIMIT
    }

    #[must_use]
    pub fn database(&self) -> &Path {
        &self.database
    }
}
