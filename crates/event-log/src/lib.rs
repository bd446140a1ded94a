//! The event log: what became of every command, in one SQLite file.
//!
//! One [`EventLog`] writes, and holds a lock against a second one; any number of [`LogReader`]s read
//! meanwhile. An append is one SQLite transaction: it settles what each command became, given the
//! idempotency window, writes that, and moves the cursors, so the log alone accounts for every offset
//! below `logged`.
//!
//! - `schema`: the tables, how a file is recognised, made and upgraded; `schema/0001.sql` is worth reading first.
//! - `files`: which files may be opened, the lock on the database, and whether all are still in place. `draft`: a new one
//!   until it is complete.
//! - `checksum`: what shows that a row is as it was written.
//! - `instance`: the instance id and its lock, beside the file.
//! - `writer`, `append`: the one writer. `preflight`: what keeps it from opening the files.
//! - `claims`, `window`: the idempotency window, on disk and in memory.
//! - `cursor`: how far each partition is. `lookup`: from an offset to what it became.
//! - `reader`, `show`, `stats`: what people and tools ask. `backup`: a copy under load. `scan`: events in order, past
//!   damaged ones. `rows`: every row as it is, for a checker.
//! - `check`: whether all of it is sound.
//! - [`read_model`]: an index beside the log, which it follows.

mod append;
mod backup;
mod check;
pub(crate) mod checksum;
mod claims;
mod cursor;
mod draft;
mod error;
mod files;
mod instance;
mod lookup;
mod options;
mod preflight;
pub mod read_model;
mod reader;
mod rows;
mod scan;
mod schema;
mod show;
mod stats;
mod window;
mod writer;

#[cfg(test)]
mod tests;

pub use append::{Chunk, Settled};
pub use backup::Backup;
pub use check::{CheckError, CheckReport, Checked, LogFinding, WalState};
pub use checksum::DamagedRow;
pub use cursor::{Anchor, Counts, Cursor};
pub use draft::Draft;
pub use error::{LogError, Wanted};
pub use files::{LogFiles, find};
pub use instance::is_in_use;
pub use lookup::Recorded;
pub use options::{LogOptions, Synchronous};
pub use preflight::{check_writable, examine_files};
pub use reader::{ListQuery, Listed, LogReader, Mark, Order};
pub use rows::{Content, Row};
pub use show::{Absence, Shown};
pub use stats::{PartitionStats, Stats};
pub use writer::{EventLog, Gap, Intervention};
