//! What the processor, the checker, the client library and the subcommands share of Kafka.
//!
//! [`Source`] and [`Sink`] are what the processor needs of a consumer and of a producer. [`consumer`], [`transactional`] and
//! [`at_least_once`] implement them with librdkafka; the simulation implements them without a broker.

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
mod notes;
mod offsets;
pub mod predecessor;
pub mod properties;
pub mod reader;
pub mod records;
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

use contract::{OutputRef, Record, ReplyRecord, ReplyTopics};
use thiserror::Error;

use liveness::Probe;
use mark::{Committed, NextOffset};
use refusal::OutputRefusal;
use replies::ReplyCounts;

/// The brokers, and the names of group and topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// The consumer group whose members share the partitions.
    pub group: String,
    /// Other librdkafka properties, as the operator set them.
    pub properties: BTreeMap<String, String>,
    pub topics: Topics,
}

/// The topics, and how to create the missing ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    pub commands: String,
    pub notifications: String,
    pub rejections: String,
    /// Topics for replies. They belong to other programs, so only the embedded broker creates them.
    pub replies: ReplyTopics,
    pub partitions: i32,
    /// −1 is the broker's default.
    pub replication_factor: i32,
    /// Bytes of the largest command that may be accepted: its notifications have to fit their topic.
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
    /// For a group that reads the topic `c`.
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
    /// This topic for commands, `n` and `r` for output, with one partition each.
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

/// What a poll returned.
#[derive(Debug)]
pub enum Polled {
    Record(Record),
    /// The group assigned these partitions to this instance; fetching begins with [`Source::start`].
    Assigned(Vec<i32>),
    /// The group revokes these partitions. They are owned until [`Source::release`].
    Revoked(Vec<i32>),
    /// These partitions may already belong to another member; nothing of theirs may be published.
    Lost(Vec<i32>),
    /// Nothing arrived in time.
    Nothing,
}

/// Where a partition starts and ends for a `read_committed` consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first retained offset.
    pub start: i64,
    /// One past the last readable offset (the last stable offset).
    pub end: i64,
}

/// Where a partition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndOffsets {
    /// One past the last record that a `read_committed` consumer sees (the last stable offset).
    pub stable: i64,
    /// One past the last record, including those of open transactions.
    pub high_watermark: i64,
}

impl EndOffsets {
    /// The ends while no transaction is open.
    #[must_use]
    pub const fn all_stable(offset: i64) -> Self {
        Self { stable: offset, high_watermark: offset }
    }
}

/// What the brokers report about the topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    /// By partition of the commands topic. Partitions whose leader does not answer are left out.
    pub offsets: Vec<(i32, EndOffsets)>,
    /// The partitions of the commands topic; `None` if unknown.
    pub partitions: Option<Vec<i32>>,
    /// Output topics that do not exist; `None` if unknown.
    pub missing: Option<Vec<String>>,
    /// Why some or all of this is unknown.
    pub error: Option<String>,
}

impl From<String> for Ends {
    fn from(error: String) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

/// An answer about one partition, or why there is none.
pub type Answer<T> = Result<T, String>;

/// Reads the commands topic: as a member of the consumer group, or outside of it. Used by one thread.
pub trait Source: Sized {
    /// The member and generation that the broker checks (KIP-447).
    type Membership: Clone + PartialEq + fmt::Debug + Send;
    /// Where the brokers are.
    type Brokers;

    /// A source outside of the group: it is assigned nothing, and commits nothing. For it, [`committed`](Self::committed)
    /// does not wait for open transactions: it returns what was committed before they end.
    fn follower(brokers: &Self::Brokers) -> Result<Self, SourceError>;
    /// The topic's partitions.
    fn partitions(&mut self) -> Result<Vec<i32>, SourceError>;
    /// Whether the group has members, other than this instance's own static one of an earlier session, or may have some.
    fn has_other_members(&mut self) -> Result<bool, SourceError>;
    fn poll(&mut self, timeout: Duration) -> Result<Polled, SourceError>;
    /// Starts fetching each partition at its offset.
    fn start(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError>;
    /// Stops fetching these partitions and keeps owning them.
    fn halt(&mut self, partitions: &[i32]) -> Result<(), SourceError>;
    /// Gives revoked or lost partitions back to the group.
    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError>;
    /// The next offset of each started partition, past control records.
    fn positions(&mut self) -> Result<Vec<(i32, i64)>, SourceError>;
    /// The group's committed offsets, whoever committed them. Waits for open transactions to end: partitions are left out of
    /// which one does not end in time.
    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Option<Committed>)>, SourceError>;
    /// Commits offsets outside any transaction, where the group had none with a mark. From then on a missing offset means
    /// that it was lost, and one without a mark means that another program moved it.
    fn commit_first(&mut self, next_offsets: &[NextOffset]) -> Result<(), SourceError>;
    fn bounds(&mut self, partition: i32) -> Result<Bounds, SourceError>;
    /// Where these partitions end, and which output topics are missing. Never blocks: `None` while the brokers are asked,
    /// and the answer once, at a later call.
    fn ends(&mut self, partitions: &[i32]) -> Option<Ends>;
    /// Takes the last error that the client reported.
    fn take_error(&mut self) -> Option<String>;
    /// The record at each of these offsets, or why it can't be read now; `None` if no record has that offset.
    fn records_at(&mut self, offsets: &[(i32, i64)]) -> Result<Vec<Answer<Option<Record>>>, SourceError>;
    /// `None` outside the group, and until the group has assigned partitions, be it none. With a generation below 0 or an
    /// empty member id the broker would check nothing.
    fn membership(&mut self) -> Option<Self::Membership>;
    /// Whether the brokers still answer. Never blocks: `None` while they are asked, and the answer once, at a later call. An
    /// answer to a question from before `since` is stale, and they are asked again.
    fn probe(&mut self, since: Instant) -> Option<Probe>;
}

/// What goes wrong while reading.
#[derive(Debug, Error)]
pub enum SourceError {
    /// May pass; the call can be repeated.
    #[error("{0}")]
    Retriable(String),
    /// Does not pass without help.
    #[error("{0}")]
    Fatal(String),
}

/// The topic of an output record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputTopic {
    Notifications,
    Rejections,
}

/// Publishes outputs and moves the group's offsets. Used by one thread.
pub trait Sink {
    type Membership;

    /// Makes the sink usable. Afterwards the outcome of everything sent before is final.
    fn reset(&mut self) -> Result<(), PublishError>;
    fn begin(&mut self) -> Result<(), PublishError>;
    fn send(&mut self, topic: OutputTopic, record: OutputRef<'_>) -> Result<(), PublishError>;
    /// Sends a reply. One that can't be delivered is dropped, which is not an error.
    fn reply(&mut self, reply: &ReplyRecord) -> Result<(), PublishError>;
    /// Makes everything sent since `begin` visible and moves the offsets: all or nothing, unless the error says that the
    /// outcome is unknown. After a failure due to a reply, the next attempt drops that reply.
    fn commit(
        &mut self,
        offsets: &[NextOffset],
        membership: &Self::Membership,
    ) -> Result<ReplyCounts, PublishError>;
    /// Aborts what was sent since `begin`.
    fn abort(&mut self) -> Result<(), PublishError>;
}

/// Why a batch was not published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Nothing is published. The group is in another generation; this instance may still own the partitions.
    #[error("the consumer group moved on: {0}")]
    StaleMembership(String),
    /// Nothing is published, and the batch can be retried.
    #[error("{0}")]
    Aborted(String),
    /// It is unknown whether the batch is published; [`Sink::reset`] settles it.
    #[error("{0}")]
    Unknown(String),
    /// The same, because there was no answer in time.
    #[error("{0}")]
    TimedOut(String),
    /// The brokers refuse something of the batch permanently. [`Sink::reset`] undoes the rest.
    #[error("{0}")]
    Refused(OutputRefusal),
    /// Another producer uses the same transactional id.
    #[error("fenced by a newer producer with the same transactional id: {0}")]
    Fenced(String),
    /// A retry can't help.
    #[error("{0}")]
    Fatal(String),
}
