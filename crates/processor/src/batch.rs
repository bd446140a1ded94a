//! What travels between the stages.

use contract::{Decision, Record, Verdict};

use super::ownership::Epoch;

/// Consecutive records of one partition, all of one epoch.
#[derive(Debug, Clone)]
pub struct Chunk<T> {
    pub partition: i32,
    pub epoch: Epoch,
    /// Where the chunk before it ended.
    pub first_offset: i64,
    /// Where the next chunk begins: past the last record and past control records behind it.
    pub next_offset: i64,
    pub content: T,
}

impl<T> Chunk<T> {
    /// The same stretch of the partition with other content.
    pub fn with<U>(&self, content: U) -> Chunk<U> {
        Chunk {
            partition: self.partition,
            epoch: self.epoch,
            first_offset: self.first_offset,
            next_offset: self.next_offset,
            content,
        }
    }
}

/// From intake to decide.
#[derive(Debug, Clone)]
pub enum Fetched {
    /// At or above `logged`: to be decided and appended.
    New(Vec<Record>),
    /// Below `logged`: decided already; the log knows what it became.
    Known(Vec<Record>),
}

/// From decide to the log.
#[derive(Debug, Clone)]
pub enum Read {
    New { records: Vec<Record>, verdicts: Vec<Verdict> },
    Known(Vec<Record>),
}

/// From the log to the publisher.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub record: Record,
    pub decision: Decision,
}
