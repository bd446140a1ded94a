//! How a log is opened.

use std::path::PathBuf;

/// What the one writer needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// The database file. Its directory must exist; `-wal`, `-shm` and `-instance` lie beside it.
    pub path: PathBuf,
    /// The commands topic. A log belongs to one topic for ever, because ids depend on the name.
    pub topic: String,
    pub synchronous: Synchronous,
    /// Bytes of SQLite's page cache.
    pub cache_bytes: u64,
    /// For how long a key is remembered after a valid command last carried it, in milliseconds of record
    /// timestamps. A longer window than before does not bring back what was forgotten.
    pub window_ms: i64,
    /// SQLite's `max_page_count`, with which a test fills the disk.
    pub max_pages: Option<u32>,
}

/// What a committed append outlives. <https://sqlite.org/pragma.html#pragma_synchronous>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Power loss.
    #[default]
    Full,
    /// A crash of the process. Power loss can take the latest appends, whole; the log then heals from the topic.
    Normal,
}

impl Synchronous {
    pub(super) fn pragma(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}
