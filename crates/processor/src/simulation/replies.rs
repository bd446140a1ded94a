//! The simulated reply topics: one that always exists, and one that comes and goes.

use std::collections::BTreeSet;

use contract::{CORRELATION_ID, Coordinates, Header, REPLY_PARTITION, REPLY_TOPIC, ReplyRecord, ReplyTopics};
use kafka::replies::{ReplyCounts, Undeliverable};

use super::cluster::{Cluster, Ended};

const ANSWERS: &str = "answers";
const FLEETING: &str = "fleeting";
/// Partitions of each of the two topics.
const PARTITIONS: i32 = 2;

/// The reply that a command requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Nothing,
    /// Can always be delivered.
    Reply,
    /// Can be delivered at times.
    Perhaps,
    /// Its partition does not exist.
    Nowhere,
}

/// The reply topics on the broker.
#[derive(Debug)]
pub struct ReplyBoard {
    pub visible: Vec<ReplyRecord>,
    /// A separate generator, so that seeds which found something before still find it.
    rng: fastrand::Rng,
    fleeting_is_there: bool,
    /// Whether commands request replies at all.
    pub asked_for: bool,
}

impl ReplyBoard {
    /// In two of five schedules, except with the seeds that found something before there were replies.
    pub fn new(seed: u64) -> Self {
        Self {
            visible: Vec::new(),
            rng: fastrand::Rng::with_seed(!seed),
            fleeting_is_there: true,
            asked_for: matches!(seed / 2 % 5, 1 | 3),
        }
    }

    fn is_there(&self, topic: &str) -> bool {
        topic == ANSWERS || self.fleeting_is_there
    }
}

pub fn topics() -> ReplyTopics {
    [ANSWERS, FLEETING].map(str::to_owned).into_iter().collect()
}

impl Ask {
    /// The reply that the command at these coordinates requests.
    pub fn at(at: Coordinates) -> Self {
        match (i64::from(at.partition) + at.offset) % 5 {
            0 => Self::Nothing,
            1 => Self::Nowhere,
            2 => Self::Perhaps,
            _ => Self::Reply,
        }
    }

    pub fn headers(self, at: Coordinates) -> Vec<Header> {
        let (topic, partition) = match self {
            Self::Nothing => return Vec::new(),
            Self::Nowhere => (ANSWERS, Some(PARTITIONS)),
            Self::Perhaps => (FLEETING, None),
            Self::Reply => (ANSWERS, (at.offset % 2 == 0).then_some(1)),
        };
        let mut headers = vec![
            Header::new(REPLY_TOPIC, topic),
            Header::new(CORRELATION_ID, format!("{}/{}", at.partition, at.offset)),
        ];
        headers.extend(partition.map(|number: i32| Header::new(REPLY_PARTITION, number.to_be_bytes())));
        headers
    }
}

/// What a sink knows about its replies.
#[derive(Debug, Default)]
pub struct Replies {
    counts: ReplyCounts,
    /// Replies sent to a missing topic, which only the commit will show.
    doomed: bool,
    /// It is known that the topic is missing, so nothing more is sent there.
    refused: BTreeSet<String>,
}

impl Replies {
    pub fn begin(&mut self) {
        (self.counts, self.doomed) = (ReplyCounts::default(), false);
    }

    /// Sends a reply, unless its destination is known to be missing.
    pub fn send(&mut self, cluster: &mut Cluster, id: &str, epoch: u64, reply: &ReplyRecord) -> Ended {
        let board = &mut cluster.replies;
        if board.rng.u32(0..4) == 0 {
            board.fleeting_is_there = !board.fleeting_is_there;
        }
        let is_there = board.is_there(&reply.topic);
        let is_known = board.rng.bool();
        let reason = if reply.partition.is_some_and(|partition| partition >= PARTITIONS) {
            Some(Undeliverable::PartitionMissing)
        } else if self.refused.contains(&reply.topic) || (!is_there && is_known) {
            Some(Undeliverable::TopicMissing)
        } else {
            None
        };
        if let Some(reason) = reason {
            *self.counts.undeliverable.entry(reason).or_default() += 1;
            cluster.count("a reply could not be delivered");
            return Ended::Done;
        }
        if !is_there {
            self.doomed = true;
            self.refused.insert(reply.topic.clone());
        }
        self.counts.published += 1;
        cluster.add_reply(id, epoch, reply.clone())
    }

    /// Whether the broker refuses one of them.
    pub fn is_doomed(&self) -> bool {
        self.doomed
    }

    pub fn take(&mut self) -> ReplyCounts {
        std::mem::take(&mut self.counts)
    }
}
