//! Options for opening a log.

use std::path::PathBuf;

/// Options for the writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// The database file, in an existing directory. The `-wal`, `-shm` and `-instance` files are beside it.
    pub path: PathBuf,
    /// The commands topic. A log belongs to one topic for ever, since ids depend on its name.
    pub topic: String,
    pub synchronous: Synchronous,
    /// The size of SQLite's page cache.
    pub cache_bytes: u64,
    /// How long a key is remembered after the last valid command with it, in milliseconds of record timestamps. If it is
    /// longer than before, keys that have expired stay forgotten.
    pub window_ms: i64,
    /// SQLite's `max_page_count`, to simulate a full disk in tests.
    pub max_pages: Option<u32>,
}

/// What a committed append survives. <https://sqlite.org/pragma.html#pragma_synchronous>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Power loss.
    #[default]
    Full,
    /// A crash of the process. Power loss can undo the latest appends, each as a whole; they are appended again from the
    /// topic.
    Normal,
}

impl Synchronous {
    pub(crate) fn pragma(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}
