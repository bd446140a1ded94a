//! Where replies can be delivered: an undeliverable reply is dropped and delays no transaction.
//!
//! A record that Kafka refuses aborts its whole transaction. So the reply topic is looked up before a reply is sent
//! (`directory`). A destination that refuses a reply all the same, or does not accept it in time, is remembered for a
//! while, so that the batch succeeds without that reply.

mod directory;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use contract::ReplyRecord;
use rdkafka::{error::RDKafkaErrorCode, producer::Producer as _};

use super::{PublishError, Settings, deliveries::Publisher};
use directory::{ASK, Directory, TopicAnswer};

/// How long a refusal is remembered.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Between two warnings about one topic for the same reason.
const WARNED: Duration = Duration::from_secs(600);

/// Why a reply was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Undeliverable {
    TopicMissing,
    PartitionMissing,
    /// The partition has no leader, or did not take the reply in time.
    Unavailable,
    /// This program may not write there.
    Forbidden,
    /// Larger than the topic accepts.
    TooLarge,
    /// The broker refused it for another reason, such as a topic that is compacted.
    Refused,
}

impl Undeliverable {
    pub const ALL: [Self; 6] = [
        Self::TopicMissing,
        Self::PartitionMissing,
        Self::Unavailable,
        Self::Forbidden,
        Self::TooLarge,
        Self::Refused,
    ];

    /// As metrics name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TopicMissing => "topic_missing",
            Self::PartitionMissing => "partition_missing",
            Self::Unavailable => "unavailable",
            Self::Forbidden => "forbidden",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
        }
    }

    fn of(code: RDKafkaErrorCode) -> Self {
        use RDKafkaErrorCode as Code;
        match code {
            Code::UnknownTopic | Code::UnknownTopicOrPartition => Self::TopicMissing,
            Code::UnknownPartition => Self::PartitionMissing,
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => Self::Forbidden,
            Code::MessageSizeTooLarge | Code::InvalidMessageSize => Self::TooLarge,
            Code::MessageTimedOut | Code::RequestTimedOut | Code::LeaderNotAvailable => Self::Unavailable,
            _ => Self::Refused,
        }
    }
}

/// What became of the replies of one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplyCounts {
    pub published: u64,
    pub undeliverable: BTreeMap<Undeliverable, u64>,
}

/// A partition of a reply topic.
pub(crate) type Destination = (String, i32);

/// A reply that was sent and refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub to: Destination,
    pub code: RDKafkaErrorCode,
    pub bytes: usize,
}

impl Refused {
    /// Whatever their size.
    pub(super) fn all(to: Vec<Destination>, code: RDKafkaErrorCode) -> Vec<Self> {
        to.into_iter().map(|to| Self { to, code, bytes: 0 }).collect()
    }
}

/// What a refused reply showed about a partition.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    reason: Undeliverable,
    until: Instant,
    /// Smaller replies may pass.
    from_bytes: usize,
}

/// Chooses each reply's partition, or says why it can't be delivered. Used by one thread.
#[derive(Debug)]
pub(crate) struct Routes {
    directory: Option<Directory>,
    refusals: HashMap<Destination, Refusal>,
    warned: HashMap<(String, Undeliverable), Instant>,
    /// The next partition for replies that may go to any.
    turn: i32,
    /// How long the current transaction may still wait for answers.
    patience: Duration,
    /// Of the current transaction.
    counts: ReplyCounts,
}

impl Routes {
    /// Asks the brokers nothing if no reply topic is allowed.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let wanted = !settings.topics.replies.is_empty();
        Self {
            directory: wanted.then(|| Directory::open(settings)).flatten(),
            refusals: HashMap::new(),
            warned: HashMap::new(),
            turn: 0,
            patience: ASK,
            counts: ReplyCounts::default(),
        }
    }

    /// Call it when a transaction begins. A transaction waits for its reply topics for up to two seconds in total.
    pub fn begin(&mut self) {
        self.patience = ASK;
        self.counts = ReplyCounts::default();
    }

    /// Sends a reply, or counts why it can't be delivered.
    pub fn send(&mut self, producer: &Publisher, reply: &ReplyRecord) -> Result<(), PublishError> {
        let sent = match self.find(reply) {
            Err(reason) => Err(reason),
            Ok(partition) => {
                let to = (reply.topic.clone(), partition);
                let refused = producer.context().deliveries().send_reply(producer, to, &reply.record)?;
                refused.map_or(Ok(()), |code| Err(Undeliverable::of(code)))
            }
        };
        match sent {
            Ok(()) => self.counts.published += 1,
            Err(reason) => *self.counts.undeliverable.entry(reason).or_default() += 1,
        }
        Ok(())
    }

    /// Counts a reply as refused that was counted as published.
    pub fn take_back(&mut self, code: RDKafkaErrorCode) {
        self.counts.published = self.counts.published.saturating_sub(1);
        *self.counts.undeliverable.entry(Undeliverable::of(code)).or_default() += 1;
    }

    /// What became of the replies since [`begin`](Self::begin).
    pub fn take_counts(&mut self) -> ReplyCounts {
        std::mem::take(&mut self.counts)
    }

    /// The reply's partition. If there seems to be none, asks the brokers again, about once a second for a topic at most.
    fn find(&mut self, reply: &ReplyRecord) -> Result<i32, Undeliverable> {
        match self.look_up(reply) {
            Ok(partition) => {
                self.turn = self.turn.wrapping_add(1) & i32::MAX;
                Ok(partition)
            }
            Err(reason) => {
                self.warn(&reply.topic, reply.partition, reason);
                Err(reason)
            }
        }
    }

    fn look_up(&mut self, reply: &ReplyRecord) -> Result<i32, Undeliverable> {
        let Some(directory) = &self.directory else { return Err(Undeliverable::Unavailable) };
        match self.choose(reply, &directory.latest(&reply.topic)) {
            Ok(partition) => Ok(partition),
            // A refusal counts more than what the brokers say.
            Err((reason, Why::Tried)) => Err(reason),
            Err((_, Why::Answered)) => {
                let begun = Instant::now();
                let answer = directory.refresh_if_stale(&reply.topic, self.patience);
                let chosen = self.choose(reply, &answer).map_err(|(reason, _)| reason);
                self.patience = self.patience.saturating_sub(begun.elapsed());
                chosen
            }
        }
    }

    fn choose(&self, reply: &ReplyRecord, answer: &TopicAnswer) -> Result<i32, (Undeliverable, Why)> {
        let against = |partition: i32| {
            let answer = answer.against(partition).map(|reason| (reason, Why::Answered));
            answer.or_else(|| Some((self.refusal(reply, partition)?, Why::Tried)))
        };
        if let Some(partition) = reply.partition {
            return against(partition).map_or(Ok(partition), Err);
        }
        let partitions = answer.partitions();
        let mut why = answer.against(0).map(|reason| (reason, Why::Answered));
        for step in 0..partitions {
            let partition = self.turn.wrapping_add(step) % partitions.max(1);
            match against(partition) {
                None => return Ok(partition),
                Some(reason) => why = why.or(Some(reason)),
            }
        }
        Err(why.unwrap_or((Undeliverable::TopicMissing, Why::Answered)))
    }

    fn refusal(&self, reply: &ReplyRecord, partition: i32) -> Option<Undeliverable> {
        if self.refusals.is_empty() {
            return None;
        }
        let refusal = self.refusals.get(&(reply.topic.clone(), partition))?;
        let counts = Instant::now() < refusal.until && reply.record.bytes() >= refusal.from_bytes;
        counts.then_some(refusal.reason)
    }

    /// Remembers refused replies, to drop others to the same partitions for the same reason.
    pub fn refuse(&mut self, refused: &[Refused]) {
        let now = Instant::now();
        self.refusals.retain(|_, refusal| now < refusal.until);
        let mut latest: BTreeMap<Destination, (Undeliverable, usize)> = BTreeMap::new();
        for Refused { to, code, bytes } in refused {
            let entry = latest.entry(to.clone()).or_insert((Undeliverable::of(*code), *bytes));
            entry.1 = entry.1.max(*bytes);
        }
        for (to, (reason, bytes)) in latest {
            // Of replies that were sent together the largest is assumed not to fit; if the others fail without it too, all
            // are refused.
            let first = !self.refusals.contains_key(&to);
            let from_bytes = if reason == Undeliverable::TooLarge && first { bytes } else { 0 };
            tracing::debug!(
                topic = to.0,
                partition = to.1,
                reason = reason.as_str(),
                from_bytes,
                "replies refused"
            );
            self.refusals.insert(to, Refusal { reason, until: now + REMEMBERED, from_bytes });
        }
    }

    /// Asks the brokers again, and returns the destinations that can't be delivered to.
    pub fn look_again(&self, destinations: Vec<Destination>) -> Vec<Destination> {
        let Some(directory) = &self.directory else { return Vec::new() };
        let until = Instant::now() + ASK;
        let mut answers: BTreeMap<String, TopicAnswer> = BTreeMap::new();
        let mut is_gone = |to: &Destination| {
            let answer = answers
                .entry(to.0.clone())
                .or_insert_with(|| directory.refresh(&to.0, until.saturating_duration_since(Instant::now())));
            answer.against(to.1).is_some()
        };
        destinations.into_iter().filter(|to| is_gone(to)).collect()
    }

    fn warn(&mut self, topic: &str, partition: Option<i32>, reason: Undeliverable) {
        let now = Instant::now();
        let key = (topic.to_owned(), reason);
        if self.warned.get(&key).is_some_and(|at| now.duration_since(*at) < WARNED) {
            return;
        }
        self.warned.insert(key, now);
        tracing::warn!(
            topic,
            partition,
            reason = reason.as_str(),
            "a reply can't be delivered and is left out; more of this topic are only counted"
        );
    }
}

/// How a destination is known to be bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The brokers said so.
    Answered,
    /// It was tried.
    Tried,
}

#[cfg(test)]
mod tests;
