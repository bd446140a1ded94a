//! The instance id, and the lock that keeps a second process from running the instance.
//!
//! The id is in a file beside the database. A backup of the database must not contain it, or two instances would fence
//! each other's transactions.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::error::LogError;
use crate::files::{self, with_suffix};

/// [`is_in_use`] holds a shared lock for less than this.
pub(crate) const PROBE: Duration = Duration::from_millis(200);

/// The length of an id and its line feed.
const ID_BYTES: usize = 37;
/// How much is read to see whether the file contains an id.
const LONGEST: u64 = 100;

/// The locked file beside the database. The lock ends when it is dropped, or with the process.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: Uuid,
    /// The file does not have the id yet.
    pub(crate) is_new: bool,
    lock: Lock,
}

/// Unlocks when it is dropped. Closing the file is not enough: until a child process execs, it shares all open files, and
/// `flock(2)` locks belong to the open file.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // If it fails, closing the file unlocks it.
        let _ = self.0.unlock();
    }
}

impl Instance {
    /// Locks the file, which is created if it is missing. A new id is only in memory until it is [recorded](Self::record).
    pub(crate) fn take(database: &Path) -> Result<Self, LogError> {
        let path = with_suffix(database, "-instance");
        files::find_own(&path)?;
        let file = files::open_own(&path).map_err(LogError::io(&path, "opening the instance file"))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < PROBE => thread::sleep(PROBE / 20),
                Err(TryLockError::WouldBlock) => {
                    return Err(LogError::Locked { path: database.to_owned(), lock: path });
                }
                Err(TryLockError::Error(error)) => {
                    return Err(LogError::io(&path, "locking the instance file")(error));
                }
            }
        }
        let lock = Lock(file);
        let found = read_id(&path, &lock.0)?;
        Ok(Self { id: found.unwrap_or_else(Uuid::new_v4), is_new: found.is_none(), lock })
    }

    /// Writes the id to the file.
    pub(crate) fn record(&mut self, database: &Path) -> Result<(), LogError> {
        let path = with_suffix(database, "-instance");
        let file = &mut self.lock.0;
        let mut write = || {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(format!("{}\n", self.id).as_bytes())?;
            file.sync_all()
        };
        write().map_err(LogError::io(&path, "writing the instance file"))?;
        files::sync_folder(&path)?;
        self.is_new = false;
        Ok(())
    }
}

/// Whether the log has an instance id; if not, the writer makes one, and forgets the log's clean stops. Returns the error that
/// the writer would return about the file's content. Neither locks nor changes it.
pub fn has_instance_id(database: &Path) -> Result<bool, LogError> {
    let path = with_suffix(&files::canonical(database), "-instance");
    if files::find_own(&path)?.is_none() {
        return Ok(false);
    }
    let file = files::open(&path).map_err(LogError::io(&path, "opening the instance file"))?;
    Ok(read_id(&path, &file)?.is_some())
}

/// The id in the file; `None` if it was not completely written, perhaps because another process is writing it.
fn read_id(path: &Path, file: &File) -> Result<Option<Uuid>, LogError> {
    let mut text = Vec::new();
    let read = file.take(LONGEST).read_to_end(&mut text);
    read.map_err(LogError::io(path, "reading the instance file"))?;
    let id = std::str::from_utf8(&text).ok().and_then(|text| Uuid::parse_str(text.trim()).ok());
    if id.is_none() && !is_unfinished(&text) {
        let found = String::from_utf8_lossy(&text).trim().to_owned();
        return Err(LogError::BadInstance { path: path.to_owned(), found });
    }
    Ok(id)
}

/// Whether the file is new, or power was lost while it was written, so that its id was never used. Any other content
/// belongs to somebody else and must not be overwritten.
fn is_unfinished(text: &[u8]) -> bool {
    let of_an_id = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'-' | 0);
    text.len() <= ID_BYTES && text.iter().all(of_an_id)
}

/// Whether a process has the log open for writing. Changes nothing.
#[must_use]
pub fn is_in_use(database: &Path) -> bool {
    let database = files::canonical(database);
    // A shared lock, so that two concurrent calls do not take each other for the writer.
    let path = with_suffix(&database, "-instance");
    files::find_own(&path).is_ok_and(|found| found.is_some())
        && files::open(&path)
            .map(Lock)
            .is_ok_and(|file| matches!(file.0.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_process_that_inherits_the_file_does_not_keep_the_lock() {
        let directory = tempfile::tempdir().expect("a directory");
        let database = directory.path().join("activity.db");
        let instance = Instance::take(&database).expect("the lock is free");
        // The same open file, as a child process has it between fork and exec.
        let inherited = instance.lock.0.try_clone().expect("a second descriptor");
        assert!(matches!(Instance::take(&database), Err(LogError::Locked { .. })));
        drop(instance);
        Instance::take(&database).expect("the lock was released");
        drop(inherited);
    }
}
