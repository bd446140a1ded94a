//! The stages and the two cursors, which join Kafka and the log.
//!
//! ```text
//!  Kafka ─▶ intake ─▶ decide ─▶ append ─▶ publish ─▶ Kafka
//!                                 │
//!                              SQLite
//! ```
//!
//! Each stage has its own thread, and between two of them there is room for one batch: while one batch commits to
//! Kafka, the next is written to SQLite, and the one after it is decided. A batch is whatever arrived while the next
//! stage was busy. Read `start` (the rule) first, then `intake`, `decide`, `append`, `publish` (`is_published` in
//! `publish::contents` keeps output from being published twice), `pipeline`, `driver`, `supervise`. `simulation` tests
//! the rule under faults.

mod append;
mod batch;
mod decide;
mod driver;
mod follow;
mod handover;
mod intake;
mod ownership;
mod pipeline;
mod progress;
mod publish;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod simulation;
mod slot;
mod start;
mod supervise;
mod timing;

pub use batch::DecidedCommands;
pub use follow::Warmth;
pub use intake::{AT_ONCE, Caps, Learned, learn};
pub use pipeline::{BUSY, IDLE};
pub use start::{Accept, Facts, Loss, Refusal, plan};
pub use supervise::{Guarantee, LogPartitions, ProcessorOptions, run};
/// The rest of the rule, for the model that is checked.
#[cfg(feature = "testing")]
pub use {
    handover::{Change, Shares},
    ownership::{Epoch, HeldPartition, HeldPartitions},
    publish::Contents,
    start::{AtAnchor, Start, plan_following, retained_anchor},
};

use std::time::{Duration, Instant};

use contract::ActivityId;
use event_log::LogError;
use kafka::{EndOffsets, SourceError, refusal::OutputRefusal, replies::ReplyCounts};
use thiserror::Error;

/// Observes the processor. Called on the threads of its stages, so it must be quick.
pub trait Observer: Send + Sync {
    /// These commands of a partition have been through the whole pipeline, in order of offset.
    fn decided(&self, partition: i32, commands: DecidedCommands<'_>) {
        let _ = (partition, commands);
    }

    /// These numbers of notifications and rejections became visible in one transaction.
    fn published(&self, notifications: u64, rejections: u64, took: Duration) {
        let _ = (notifications, rejections, took);
    }

    /// What became of the replies that the commands of that transaction requested.
    fn replied(&self, replies: &ReplyCounts) {
        let _ = replies;
    }

    /// A batch was appended to the log, which now ends at these offsets.
    fn appended(&self, next_offsets: &[(i32, i64)], commands: usize, took: Duration) {
        let _ = (next_offsets, commands, took);
    }

    /// Commands that another instance publishes were appended to the log, which now ends at these offsets.
    fn followed(&self, next_offsets: &[(i32, i64)], commands: usize) {
        let _ = (next_offsets, commands);
    }

    /// How far the log is with a partition that another instance publishes, and the partition's last known end. Called about
    /// once a second.
    fn followed_to(&self, partition: i32, logged: i64, end: Option<End>) {
        let _ = (partition, logged, end);
    }

    /// Before it joins the group, the log catches up with it. Called about once a second.
    fn warming(&self, warmth: &Warmth) {
        let _ = warmth;
    }

    /// A transaction was not committed, or its outcome is unknown.
    fn aborted(&self, reason: AbortReason) {
        let _ = reason;
    }

    /// A session ended with this error, and another one will follow.
    fn interrupted(&self, error: &ProcessorError) {
        let _ = error;
    }

    /// The polling thread is alive and holds this number of partitions. `waits_for` is the reason if no commands are being
    /// processed.
    fn polled(&self, partitions: usize, waits_for: Option<&str>) {
        let _ = (partitions, waits_for);
    }

    /// How far a held partition is published, and its last known end. Called about once a second.
    fn position(&self, partition: i32, published: i64, end: Option<End>) {
        let _ = (partition, published, end);
    }

    /// Another instance has this partition, or may have it.
    fn released(&self, partition: i32) {
        let _ = partition;
    }
}

/// Why a Kafka transaction was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AbortReason {
    /// Somebody else uses the transactional id, or the broker considered this producer dead.
    Fenced,
    /// A partition of the batch is no longer held.
    Revoked,
    /// The group's generation moved on, and the partitions are still held.
    Rebalanced,
    /// The broker refused a record or a request.
    Refused,
    /// Its outcome is unknown, because there was no answer in time.
    TimedOut,
    /// Its outcome is unknown for another reason.
    Unknown,
}

impl AbortReason {
    pub const ALL: [Self; 6] =
        [Self::Fenced, Self::Revoked, Self::Rebalanced, Self::Refused, Self::TimedOut, Self::Unknown];

    /// As metrics name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Revoked => "revoked",
            Self::Rebalanced => "rebalanced",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Unknown => "unknown",
        }
    }
}

/// Where a partition ended when the brokers were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    pub offsets: EndOffsets,
    pub at: Instant,
}

/// Why the processor stopped working.
#[derive(Debug, Error)]
pub enum ProcessorError {
    #[error("{}", list(.0))]
    Refused(Vec<Refusal>),
    #[error(
        "partition {partition}, offset {offset}: the topic holds another record than the one that was decided: \
         the log has {wanted}, the topic has {found}. The topic was created again, belongs to another cluster, or \
         lost records. Name the right cluster and topic, or keep this log aside and start with a new file and a \
         new group"
    )]
    TopicDiffers { partition: i32, offset: i64, wanted: String, found: String },
    #[error(
        "partition {partition}, offset {offset}: beyond what an activity id can hold (partitions up to {}, \
         offsets up to {}). Use a new topic with fewer partitions",
        ActivityId::MAX_PARTITION,
        ActivityId::MAX_OFFSET
    )]
    IdSpaceExceeded { partition: i32, offset: i64 },
    #[error(
        "fenced twice by a newer producer: another process runs on a copy of this log ({0}). Stop one of the \
         two; a copy becomes an instance of its own when its '-instance' file is removed before it is started"
    )]
    FencedTwice(String),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{0}")]
    Source(SourceError),
    #[error("{0}")]
    Publish(String),
    #[error(
        "partition {partition}, offset {offset}: the broker refuses the output of this command: {refusal}"
    )]
    OutputRefused { partition: i32, offset: i64, refusal: OutputRefusal },
    #[error("a stage of the processor failed: {0}. This is a fault of the program; please report it")]
    Panicked(String),
}

impl ProcessorError {
    /// Whether a restart from the cursors can help without a person's action.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Source(SourceError::Retriable(_)) => true,
            Self::Log(error) => error.is_transient(),
            _ => false,
        }
    }
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
