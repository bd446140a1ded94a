//! The event log: the decision about every command, in one SQLite file.
//!
//! One [`EventLog`] writes, and holds a lock against other writers. Any number of [`LogReader`]s can read at the same time.
//! An append is one SQLite transaction: it decides duplicates by the idempotency window, inserts the decisions, and moves
//! the cursors. So the log accounts for every offset below `logged`.
//!
//! - `schema`: the tables, and how a file is recognised, created and upgraded. Read `schema/0001.sql` first.
//! - `files`: which files may be opened, the lock on the database, and whether all files are still in place. `draft`: a new
//!   file until it is complete. `preflight`: whether a writer can open the files.
//! - `checksum`: the checksum of each row.
//! - `instance`: the instance id and its lock, in a file beside the database.
//! - `writer`, `append`, `event_rows`: the writer.
//! - `claims`, `claim_group`, `window`: the idempotency window, on disk and in memory.
//! - `cursor`: each partition's cursor. `lookup`: finds a command by its offset.
//! - `reader`, `scan`: lists events, also beyond damaged ones. `show`: one command. `stats`: statistics. `rows`: all rows,
//!   for a checker. `backup`: copies a log in use.
//! - `check`: reads the whole log and reports damage.
//! - [`read_model`]: an index beside the log. `appended`: what its follower gets from the writer.

mod append;
mod appended;
mod backup;
mod check;
mod checksum;
mod claim_group;
mod claims;
mod cursor;
mod draft;
mod error;
mod event_rows;
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
#[cfg(any(test, feature = "testing"))]
mod testing;
mod window;
mod writer;

#[cfg(test)]
mod tests;

pub use append::Stretch;
pub use backup::Backup;
pub use check::{CheckError, CheckReport, Checked, LogFinding, WalState};
pub use checksum::DamagedRow;
pub use cursor::{Anchor, Counts, Cursor};
pub use error::LogError;
pub use files::{LogFiles, find};
pub use instance::{has_instance_id, is_in_use};
pub use lookup::Recorded;
pub use options::{LogOptions, Synchronous};
pub use preflight::{check_writable, examine_files};
pub use reader::{ListQuery, Listed, LogReader, Order};
pub use rows::{Content, Row};
pub use schema::PAGE_BYTES;
pub use show::{Absence, Shown};
pub use stats::{PartitionStats, Stats};
#[cfg(any(test, feature = "testing"))]
pub use testing::{Chunk, Settled};
pub use writer::{EventLog, Gap, Intervention};
