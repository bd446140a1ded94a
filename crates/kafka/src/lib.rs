//! The Kafka side: what the processor needs of a consumer and of a producer, and how librdkafka gives it.
//!
//! [`Source`] and [`Sink`] are the processor's view. The processor is driven through them by a real
//! broker ([`consumer`], [`transactional`], [`at_least_once`]) and, in tests, by a simulated one.

pub mod access;
pub mod at_least_once;
pub mod client;
mod connection;
pub mod consumer;
pub mod context;
mod deliveries;
pub mod embedded;
mod ends;
pub mod follow;
pub mod liveness;
pub mod mark;
pub mod member;
pub mod native;
pub mod properties;
pub mod reader;
pub mod refusal;
pub mod repeats;
pub mod replies;
pub mod scan;
mod topic_id;
pub mod topics;
pub mod transactional;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use contract::{OutputRecord, Record, ReplyRecord, ReplyTopics};
use thiserror::Error;

use liveness::Probe;
use mark::{Committed, NextOffset};
use refusal::OutputRefusal;
use replies::ReplyCounts;

/// Where the brokers are and what the names on them are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// The consumer group whose members share the partitions.
    pub group: String,
    /// Any other librdkafka property, as the operator set it.
    pub properties: BTreeMap<String, String>,
    pub topics: Topics,
}

/// The three topics, and how they are made where that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    pub commands: String,
    pub notifications: String,
    pub rejections: String,
    /// Those that replies may go to. They are others', so they are never made here, but on the embedded broker.
    pub replies: ReplyTopics,
    pub partitions: i32,
    /// −1: the broker's default.
    pub replication_factor: i32,
    /// Bytes of the largest command that may be accepted: the notifications topic has to take what follows of it.
    pub largest_command: usize,
}

impl Topics {
    /// The output topic's name.
    #[must_use]
    pub fn output(&self, topic: OutputTopic) -> &str {
        match topic {
            OutputTopic::Notifications => &self.notifications,
            OutputTopic::Rejections => &self.rejections,
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Settings {
    /// Of a group that reads the topic `c`.
    pub fn for_test(bootstrap_servers: &str, properties: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            group: "g".into(),
            properties: properties.iter().map(owned).collect(),
            topics: Topics::for_test("c"),
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Topics {
    /// This one for commands, `n` and `r`, each with one partition.
    pub fn for_test(commands: &str) -> Self {
        Self {
            commands: commands.into(),
            notifications: "n".into(),
            rejections: "r".into(),
            replies: ReplyTopics::default(),
            partitions: 1,
            replication_factor: 1,
            largest_command: 1024,
        }
    }
}

/// What a poll brought.
#[derive(Debug)]
pub enum Polled {
    Record(Record),
    /// The group gave these partitions to this instance; nothing is fetched before [`Source::start`].
    Assigned(Vec<i32>),
    /// The group takes these partitions away. They are still owned until [`Source::release`].
    Revoked(Vec<i32>),
    /// These partitions may belong to somebody else already; nothing of theirs may be published.
    Lost(Vec<i32>),
    /// Nothing arrived within the time-out.
    Nothing,
}

/// Where a partition begins and ends for a `read_committed` reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset that is still retained.
    pub start: i64,
    /// One past the last readable offset (the last stable offset).
    pub end: i64,
}

/// Where a partition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndOffsets {
    /// One past the last record that a `read_committed` consumer gets (the last stable offset).
    pub stable: i64,
    /// One past the last record, those of open transactions included.
    pub high_watermark: i64,
}

impl EndOffsets {
    /// Where no transaction is open.
    #[must_use]
    pub const fn all_stable(offset: i64) -> Self {
        Self { stable: offset, high_watermark: offset }
    }
}

/// What the brokers say of the topics, asked now and then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    /// By partition of the commands topic; without those whose leader does not answer.
    pub offsets: Vec<(i32, EndOffsets)>,
    /// Topics that output goes to, and that do not exist; `None` where that is unknown.
    pub missing: Option<Vec<String>>,
    /// Why they could not be asked, or not about all.
    pub error: Option<String>,
}

impl From<String> for Ends {
    fn from(error: String) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

/// Of one partition among others; without it, why.
pub type Answer<T> = Result<T, String>;

/// A member of the consumer group that reads the commands topic. Used by one thread.
pub trait Source {
    /// Which member of which generation of the group this is, as the broker checks it (KIP-447).
    type Membership: Clone + PartialEq + fmt::Debug + Send;

    fn poll(&mut self, timeout: Duration) -> Result<Polled, SourceError>;
    /// Starts fetching each partition at its offset.
    fn start(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError>;
    /// Stops fetching these partitions, which stay owned.
    fn halt(&mut self, partitions: &[i32]) -> Result<(), SourceError>;
    /// Gives revoked or lost partitions back to the group.
    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError>;
    /// For each started partition the offset that is read next, past control records.
    fn positions(&mut self) -> Result<Vec<(i32, i64)>, SourceError>;
    /// The group's committed offsets, whoever committed them, waiting for open transactions to end.
    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Option<Committed>)>, SourceError>;
    /// Commits offsets outside any transaction, where the group had none with a mark: from then on their absence says
    /// that they were lost, and another one without a mark that somebody else moved them.
    fn commit_first(&mut self, next_offsets: &[NextOffset]) -> Result<(), SourceError>;
    fn bounds(&mut self, partition: i32) -> Result<Bounds, SourceError>;
    /// Where these partitions end, and which output topics are missing. Waits for nobody: `None` while the brokers are
    /// being asked, and the answer once, at a later call.
    fn ends(&mut self, partitions: &[i32]) -> Option<Ends>;
    /// The last error that the client told of, once.
    fn take_error(&mut self) -> Option<String>;
    /// The record at each of these offsets, or why it cannot be had just now; `None` where there is none at just that offset.
    fn records_at(&mut self, offsets: &[(i32, i64)]) -> Result<Vec<Answer<Option<Record>>>, SourceError>;
    /// `None` while this is not a member: with a generation below 0 or an empty member id the broker would check nothing.
    fn membership(&mut self) -> Option<Self::Membership>;
    /// Whether the brokers still answer. Never blocks: `None` while they are being asked, and the answer once, at a later
    /// call. They are asked again where they were asked before `since`: that answer may be stale.
    fn probe(&mut self, since: Instant) -> Option<Probe>;
}

/// What goes wrong while reading.
#[derive(Debug, Error)]
pub enum SourceError {
    /// May pass: the same call can be made again.
    #[error("{0}")]
    Retriable(String),
    /// Does not pass by itself.
    #[error("{0}")]
    Fatal(String),
}

/// Which topic an output record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputTopic {
    Notifications,
    Rejections,
}

/// Publishes outputs and moves the group's offsets. Used by one thread.
pub trait Sink {
    type Membership;

    /// Makes the sink usable: after it, nothing that was under way before can still become visible or undone.
    fn reset(&mut self) -> Result<(), PublishError>;
    fn begin(&mut self) -> Result<(), PublishError>;
    fn send(&mut self, topic: OutputTopic, record: &OutputRecord) -> Result<(), PublishError>;
    /// Sends a reply, or leaves it out where it can't be delivered: that is no error.
    fn reply(&mut self, reply: &ReplyRecord) -> Result<(), PublishError>;
    /// Makes all that was sent since `begin` visible and moves the offsets: all of it or, on an error
    /// other than those of unknown end, none. Where a reply is why it failed, the next attempt leaves it out.
    fn commit(
        &mut self,
        offsets: &[NextOffset],
        membership: &Self::Membership,
    ) -> Result<ReplyCounts, PublishError>;
    /// Gives up what was sent since `begin`.
    fn abort(&mut self) -> Result<(), PublishError>;
}

/// Why a batch was not published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Nothing is out. The group moved on to another generation; this instance may still own the partitions.
    #[error("the consumer group moved on: {0}")]
    StaleMembership(String),
    /// Nothing is out, and the same batch can be tried again.
    #[error("{0}")]
    Aborted(String),
    /// It is not known whether the batch is out; [`Sink::reset`] settles it.
    #[error("{0}")]
    Unknown(String),
    /// The same, since there was no answer in time.
    #[error("{0}")]
    TimedOut(String),
    /// Something of the batch is not taken, now or later. [`Sink::reset`] undoes the rest.
    #[error("{0}")]
    Refused(OutputRefusal),
    /// Another producer uses the same transactional id.
    #[error("fenced by a newer producer with the same transactional id: {0}")]
    Fenced(String),
    /// Trying again can't help.
    #[error("{0}")]
    Fatal(String),
}
