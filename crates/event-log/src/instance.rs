//! Which instance this is, and that it runs once.
//!
//! The id is not in the database: a backup of the database must not carry it, or two instances would fence
//! each other's transactions.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{LogError, files};

/// For how long another's lock may be that of a reader who asked whether the log is in use.
const LOOK: Duration = Duration::from_millis(200);

/// Of an id and its line's end, and of what is read to see whether it is one.
const ID_BYTES: usize = 37;
const LONGEST: u64 = 100;

/// The locked file beside the database. The lock ends with the value, and with the process, however it ends.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: Uuid,
    _lock: Lock,
}

/// Unlocks when it is dropped. Closing alone does not where a child process is just being started: until it
/// runs its own program it holds all that was open here, and `flock(2)` goes by what is open.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // What cannot be unlocked is unlocked by closing it.
        let _ = self.0.unlock();
    }
}

impl Instance {
    /// Locks the file, and makes it with a new id where it is missing.
    pub(super) fn take(database: &Path) -> Result<Self, LogError> {
        let path = beside(database, "-instance");
        let io = |doing| {
            let path = path.clone();
            move |source| LogError::Io { path, doing, source }
        };
        files::find_own(&path)?;
        let file = files::open_own(&path).map_err(io("opening the instance file"))?;
        let asked = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if asked.elapsed() < LOOK => thread::sleep(LOOK / 20),
                Err(TryLockError::WouldBlock) => {
                    return Err(LogError::Locked { path: database.to_owned(), lock: path });
                }
                Err(TryLockError::Error(error)) => return Err(io("locking the instance file")(error)),
            }
        }
        let mut file = Lock(file);
        if let Some(id) = read_id(&path, &file.0)? {
            return Ok(Self { id, _lock: file });
        }
        let id = Uuid::new_v4();
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(format!("{id}\n").as_bytes())?;
            file.sync_all()
        };
        write(&mut file.0).map_err(io("writing the instance file"))?;
        sync_directory(&path)?;
        Ok(Self { id, _lock: file })
    }
}

/// Refuses what [`Instance::take`] would refuse of the file itself, without a lock and without a change.
pub(super) fn examine(database: &Path) -> Result<(), LogError> {
    let path = beside(database, "-instance");
    if files::find_own(&path)?.is_some() {
        let file = files::open(&path);
        let file = file.map_err(|source| LogError::Io {
            path: path.clone(),
            doing: "opening the instance file",
            source,
        })?;
        read_id(&path, &file)?;
    }
    Ok(())
}

/// The id that the file holds; `None` where it is still to be written. Half of it is seen while another process writes it.
fn read_id(path: &Path, file: &File) -> Result<Option<Uuid>, LogError> {
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).map_err(|source| LogError::Io {
        path: path.to_owned(),
        doing: "reading the instance file",
        source,
    })?;
    let id = std::str::from_utf8(&text).ok().and_then(|text| Uuid::parse_str(text.trim()).ok());
    if id.is_none() && !is_unfinished(&text) {
        let found = String::from_utf8_lossy(&text).trim().to_owned();
        return Err(LogError::BadInstance { path: path.to_owned(), found });
    }
    Ok(id)
}

/// New, or power was lost while it was written, and then nobody has used that id. Whatever else stands there is not
/// this program's to write over.
fn is_unfinished(text: &[u8]) -> bool {
    let of_an_id = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'-' | 0);
    text.len() <= ID_BYTES && text.iter().all(of_an_id)
}

/// `activity.db` and `-wal` give `activity.db-wal`.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A new name in a directory outlives power loss only when the directory was flushed.
pub(super) fn sync_directory(file: &Path) -> Result<(), LogError> {
    let directory = files::folder(file);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|source| LogError::Io {
        path: directory.to_owned(),
        doing: "flushing the directory",
        source,
    })
}

/// Whether a process writes the log at this moment. Touches nothing.
#[must_use]
pub fn is_in_use(database: &Path) -> bool {
    let database = files::real(database);
    // Shared, so that two who ask at once do not take each other for the writer.
    let path = beside(&database, "-instance");
    files::find_own(&path).is_ok_and(|found| found.is_some())
        && files::open(&path)
            .map(Lock)
            .is_ok_and(|file| matches!(file.0.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_process_has_inherited_keeps_no_log_locked() {
        let directory = tempfile::tempdir().expect("a directory");
        let database = directory.path().join("activity.db");
        let instance = Instance::take(&database).expect("nobody else has it");
        // As a child has it between fork and exec: the same open file.
        let inherited = instance._lock.0.try_clone().expect("a second descriptor");
        assert!(matches!(Instance::take(&database), Err(LogError::Locked { .. })));
        drop(instance);
        Instance::take(&database).expect("it was given up");
        drop(inherited);
    }
}
