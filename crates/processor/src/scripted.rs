//! For tests of one stage: a log, and a source and a sink that do what the test scripts.

use std::{
    collections::{BTreeSet, VecDeque},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use contract::{OutputRecord, OutputRef, Record, ReplyRecord, ReplyTopics};
use event_log::{EventLog, LogOptions, Synchronous};
use kafka::{
    Answer, Bounds, Ends, OutputTopic, Polled, PublishError, Sink, Source, SourceError,
    liveness::Probe,
    mark::{Committed, Marker, NextOffset, RulesHash},
    refusal::OutputRefusal,
    replies::ReplyCounts,
};
use rdkafka::error::RDKafkaErrorCode;

use super::{
    Observer,
    publish::PublishOptions,
    start::{Accept, Terms, plan},
};

/// Ignores everything.
pub(super) struct Unobserved;

impl Observer for Unobserved {}

/// Answers as the test scripts.
#[derive(Debug, Default)]
pub(super) struct Scripted {
    pub polled: VecDeque<Polled>,
    /// Why the group's offsets are unavailable; `None` if they are available.
    pub held_up: Option<String>,
    /// Partitions whose committed offset is pending.
    pub pending: BTreeSet<i32>,
    /// Partitions whose bounds are unknown.
    pub leaderless: BTreeSet<i32>,
    /// The answers to commits of the first offsets, one after another; after these, commits succeed.
    pub commits: VecDeque<SourceError>,
    /// The first offsets that were committed.
    pub first: Vec<NextOffset>,
    /// Where there is none, one of this program's.
    pub committed: Option<Committed>,
    pub positions: Vec<(i32, i64)>,
    /// Of each partition.
    pub end: i64,
    /// It is a member of the group or, as a follower, others are.
    pub member: bool,
    pub reach: Option<Probe>,
    pub asked: u32,
    pub ends: Option<Ends>,
    pub error: Option<String>,
}

/// Nothing is accepted.
pub(super) fn terms() -> Terms {
    let marker = Marker { instance: uuid::Uuid::nil(), rules: RulesHash(7) };
    Terms { accept: Accept::default(), marker, plan }
}

/// Of the topic `c`.
pub(super) fn publish_options() -> PublishOptions {
    PublishOptions {
        topic: "c".into(),
        source: "s".into(),
        marker: terms().marker,
        rejection_bytes: 1 << 20,
        replies: ReplyTopics::default(),
        output_bytes: 1 << 20,
    }
}

/// A new log of the topic `c`.
pub(super) fn log(folder: &Path) -> Arc<Mutex<EventLog>> {
    let log = EventLog::open(&LogOptions {
        path: folder.join("activity.db"),
        topic: "c".into(),
        synchronous: Synchronous::Normal,
        cache_bytes: 1 << 20,
        window_ms: 1,
        max_pages: None,
    });
    Arc::new(Mutex::new(log.unwrap()))
}

impl Source for Scripted {
    type Membership = u32;
    type Brokers = fn() -> Self;

    fn follower(make: &fn() -> Self) -> Result<Self, SourceError> {
        Ok(make())
    }

    fn partitions(&mut self) -> Result<Vec<i32>, SourceError> {
        Ok(vec![0])
    }

    fn has_other_members(&mut self) -> Result<bool, SourceError> {
        match &self.held_up {
            Some(reason) => Err(SourceError::Retriable(reason.clone())),
            None => Ok(self.member),
        }
    }

    fn poll(&mut self, _: Duration) -> Result<Polled, SourceError> {
        Ok(self.polled.pop_front().unwrap_or(Polled::Nothing))
    }

    fn start(&mut self, _: &[(i32, i64)]) -> Result<(), SourceError> {
        Ok(())
    }

    fn halt(&mut self, _: &[i32]) -> Result<(), SourceError> {
        Ok(())
    }

    fn release(&mut self, _: &[i32]) -> Result<(), SourceError> {
        Ok(())
    }

    fn positions(&mut self) -> Result<Vec<(i32, i64)>, SourceError> {
        Ok(self.positions.clone())
    }

    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Option<Committed>)>, SourceError> {
        let own = Some(Committed { offset: 0, mark: Some(terms().marker.mark(0)) });
        match &self.held_up {
            Some(reason) => Err(SourceError::Retriable(reason.clone())),
            None => {
                let known = partitions.iter().filter(|partition| !self.pending.contains(partition));
                Ok(known.map(|&partition| (partition, self.committed.or(own))).collect())
            }
        }
    }

    fn commit_first(&mut self, next_offsets: &[NextOffset]) -> Result<(), SourceError> {
        self.first.extend(next_offsets);
        self.commits.pop_front().map_or(Ok(()), Err)
    }

    fn bounds(&mut self, partition: i32) -> Result<Bounds, SourceError> {
        if self.leaderless.contains(&partition) {
            return Err(SourceError::Retriable("no leader".into()));
        }
        Ok(Bounds { start: 0, end: self.end })
    }

    fn ends(&mut self, _: &[i32]) -> Option<Ends> {
        self.ends.clone()
    }

    fn take_error(&mut self) -> Option<String> {
        self.error.take()
    }

    fn records_at(&mut self, wanted: &[(i32, i64)]) -> Result<Vec<Answer<Option<Record>>>, SourceError> {
        Ok(vec![Ok(None); wanted.len()])
    }

    fn membership(&mut self) -> Option<u32> {
        self.member.then_some(1)
    }

    fn probe(&mut self, _: Instant) -> Option<Probe> {
        self.asked += 1;
        self.reach.clone()
    }
}

/// A sink that keeps everything sent to it.
#[derive(Debug, Default)]
pub(super) struct ScriptedSink {
    /// Why no producer can be made.
    pub unreachable: Option<String>,
    pub all: Vec<OutputRecord>,
    /// Transactions with a record that contains this are refused.
    pub poison: Option<&'static str>,
    /// Transactions with more records than this are refused.
    pub most: Option<usize>,
    /// The records of the current transaction.
    sent: Vec<String>,
    pub committed: Vec<Vec<(i32, i64)>>,
}

impl Sink for ScriptedSink {
    type Membership = u32;

    fn reset(&mut self) -> Result<(), PublishError> {
        self.unreachable.clone().map_or(Ok(()), |reason| Err(PublishError::Unknown(reason)))
    }

    fn begin(&mut self) -> Result<(), PublishError> {
        self.sent.clear();
        Ok(())
    }

    fn send(&mut self, _: OutputTopic, record: OutputRef<'_>) -> Result<(), PublishError> {
        self.all.push(record.to_record());
        self.sent.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
        Ok(())
    }

    fn reply(&mut self, _: &ReplyRecord) -> Result<(), PublishError> {
        Ok(())
    }

    fn commit(&mut self, offsets: &[NextOffset], _: &u32) -> Result<ReplyCounts, PublishError> {
        let Self { poison, most, sent, committed, .. } = self;
        let is_poisoned = poison.is_some_and(|poison| {
            let quoted = format!("\"{poison}\"");
            sent.iter().any(|value| value.contains(&quoted))
        });
        if is_poisoned || most.is_some_and(|most| sent.len() > most) {
            let code = RDKafkaErrorCode::InvalidRecord;
            let refusal = OutputRefusal::of(code, || "a record for 'r': no".into());
            return Err(PublishError::Refused(refusal.unwrap()));
        }
        committed.push(offsets.iter().map(|next| (next.partition, next.offset)).collect());
        Ok(ReplyCounts::default())
    }

    fn abort(&mut self) -> Result<(), PublishError> {
        Ok(())
    }
}
