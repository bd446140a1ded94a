//! The facts that are read before anything is compared: the group's offsets, the bounds of the topics, and the coverage of
//! each log.

use std::{collections::BTreeMap, ops::ControlFlow};

use event_log::{Anchor, Counts, LogError, LogReader};
use kafka::{
    Bounds,
    mark::{Committed, RulesHash},
};

use super::{
    Rules, VerifyError,
    segments::{Coverage, Segment, around, segments},
    source::{Topic, Topics},
};

/// The facts that are gathered before reading. Their order matters: see [`Facts::gather`].
#[derive(Debug)]
pub(crate) struct Facts {
    /// Of the commands topic, by number.
    pub(crate) partitions: Vec<Partition>,
    pub(crate) notifications: Vec<Bounds>,
    pub(crate) rejections: Vec<Bounds>,
    /// Of each log.
    pub(crate) logs: Vec<LogFacts>,
}

/// A partition of the commands topic.
#[derive(Debug, Clone)]
pub(crate) struct Partition {
    pub(crate) committed: CommittedBy,
    /// The rules of the processor that committed the group's offset, if the offset has a mark.
    pub(crate) decided_by: Option<RulesHash>,
    /// Commands from here on are not judged.
    pub(crate) published: i64,
    pub(crate) bounds: Bounds,
    pub(crate) segments: Vec<Segment>,
}

/// Who committed the group's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommittedBy {
    /// The group has none.
    Nobody,
    /// The processor: the offset carries its mark, or a log knows it as its own commit.
    Processor,
    /// Somebody else committed this offset, so it does not show how far the output is published.
    Other(i64),
}

/// What a log reports about itself.
#[derive(Debug)]
pub(crate) struct LogFacts {
    pub(crate) coverage: BTreeMap<i32, Coverage>,
    pub(crate) counts: BTreeMap<i32, Counts>,
    anchors: BTreeMap<i32, Anchor>,
    /// The log saw everything before it published.
    seen: BTreeMap<i32, i64>,
}

impl Facts {
    /// `published` comes first: the group's offset if the processor committed it, otherwise the highest offset that the logs
    /// have seen published. The ends of the output come after it, so that everything published lies before them, and the
    /// ends of the commands last, so that every command with output lies before those. The logs are read after the group, so
    /// that a log that keeps up never seems to lag.
    pub(crate) fn gather(
        topics: &mut dyn Topics,
        logs: &[LogReader],
        rules: &Rules,
    ) -> Result<Self, VerifyError> {
        let committed = topics.committed()?;
        if committed.iter().all(Option::is_none) {
            let (group, topic) = (rules.group.clone(), rules.decider.topic().to_owned());
            return Err(VerifyError::NoOffsets { group, topic });
        }
        let logs_facts = logs.iter().map(LogFacts::of).collect::<Result<Vec<_>, _>>()?;
        let notifications = topics.bounds(Topic::Notifications)?;
        let rejections = topics.bounds(Topic::Rejections)?;
        let bounds = topics.bounds(Topic::Commands)?;
        let mut partitions = Vec::with_capacity(committed.len());
        for ((committed, bounds), partition) in committed.into_iter().zip(bounds).zip(0..) {
            let seen = logs_facts.iter().filter_map(|log| log.seen.get(&partition).copied()).max();
            let decided_by = committed.and_then(|found| found.mark).map(|mark| mark.rules);
            let furthest = committed.map_or(0, |found| found.offset);
            let (committed, published) = published(committed, seen);
            if let Some(published) = [furthest, published].into_iter().find(|&offset| offset > bounds.end) {
                let (group, end) = (rules.group.clone(), bounds.end);
                return Err(VerifyError::BeyondEnd { group, partition, published, end });
            }
            let coverage: Vec<_> = logs_facts
                .iter()
                .map(|log| log.coverage.get(&partition).cloned().unwrap_or_default())
                .collect();
            let segments = segments(bounds.start, published, &coverage);
            partitions.push(Partition { committed, decided_by, published, bounds, segments });
        }
        let facts = Self { partitions, notifications, rejections, logs: logs_facts };
        facts.check_logs(topics, logs, rules)?;
        Ok(facts)
    }

    pub(crate) fn partition(&self, partition: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    pub(crate) fn bounds(&self, topic: Topic) -> Vec<Bounds> {
        match topic {
            Topic::Commands => self.partitions.iter().map(|partition| partition.bounds).collect(),
            Topic::Notifications => self.notifications.clone(),
            Topic::Rejections => self.rejections.clone(),
        }
    }

    /// Refuses a log of another topic, since all of it would deviate.
    fn check_logs(
        &self,
        topics: &mut dyn Topics,
        logs: &[LogReader],
        rules: &Rules,
    ) -> Result<(), VerifyError> {
        for (log, facts) in logs.iter().zip(&self.logs) {
            let other =
                |partition, found| VerifyError::OtherTopic { path: log.path().to_owned(), partition, found };
            for (&partition, coverage) in &facts.coverage {
                let end = self.partition(partition).map_or(0, |partition| partition.bounds.end);
                if coverage.logged > end {
                    let found =
                        format!("the log goes up to offset {}, and the topic ends at {end}", coverage.logged);
                    return Err(other(partition, found));
                }
            }
            let mut anchors = facts.anchors.clone();
            anchors.retain(|&partition, anchor| {
                self.partition(partition).is_some_and(|partition| {
                    (partition.bounds.start..partition.bounds.end).contains(&anchor.offset)
                })
            });
            let wanted: Vec<_> = anchors
                .iter()
                .map(|(&partition, anchor)| (partition, anchor.offset..anchor.offset + 1))
                .collect();
            let mut found = BTreeMap::new();
            let unread = topics.read(Topic::Commands, &wanted, &mut |record| {
                found.insert(record.coordinates.partition, (record.coordinates.timestamp, record.checksum()));
                Ok(ControlFlow::Continue(()))
            })?;
            if let Some(unread) = unread.first() {
                let (topic, partition) = (rules.decider.topic().to_owned(), unread.partition);
                let (offset, published) = (unread.offsets.start, unread.offsets.end);
                return Err(VerifyError::CommandsHeldBack { topic, partition, offset, published });
            }
            for (partition, anchor) in anchors {
                let there = found.get(&partition);
                if there == Some(&(anchor.timestamp, anchor.checksum)) {
                    continue;
                }
                let there = there.map_or("no record".to_owned(), |(timestamp, checksum)| {
                    format!("one with timestamp {timestamp} and checksum {checksum:08x}")
                });
                let Anchor { offset, timestamp, checksum } = anchor;
                let found = format!(
                    "the log's last record, at offset {offset}, has timestamp {timestamp} and checksum \
                     {checksum:08x}, and the topic has {there} there"
                );
                return Err(other(partition, found));
            }
        }
        Ok(())
    }
}

/// Who committed the offset, and up to where the output is certainly published.
fn published(committed: Option<Committed>, seen: Option<i64>) -> (CommittedBy, i64) {
    match committed {
        None => (CommittedBy::Nobody, 0),
        Some(Committed { offset, mark: Some(_) }) => (CommittedBy::Processor, offset),
        Some(Committed { offset, mark: None }) if seen == Some(offset) => (CommittedBy::Processor, offset),
        Some(Committed { offset, mark: None }) => (CommittedBy::Other(offset), seen.unwrap_or(0)),
    }
}

impl Partition {
    pub(crate) fn segment(&self, offset: i64) -> Option<&Segment> {
        around(&self.segments, offset)
    }
}

impl LogFacts {
    fn of(log: &LogReader) -> Result<Self, VerifyError> {
        let stats = log.stats()?;
        if let Some(damaged) = stats.damaged.first() {
            let found = damaged.to_string();
            return Err(LogError::Damaged { path: log.path().to_owned(), found }.into());
        }
        let mut facts = Self {
            coverage: BTreeMap::new(),
            counts: BTreeMap::new(),
            anchors: BTreeMap::new(),
            seen: BTreeMap::new(),
        };
        for partition in stats.partitions {
            let cursor = partition.cursor;
            let gaps = stats.gaps.iter().filter(|(of, _)| *of == cursor.partition);
            let gaps = gaps.map(|(_, gap)| gap.first_offset..gap.next_offset).collect();
            facts.coverage.insert(cursor.partition, Coverage { logged: cursor.logged, gaps });
            facts.counts.insert(cursor.partition, partition.counts);
            facts.seen.extend(cursor.published_seen.map(|seen| (cursor.partition, seen)));
            facts.anchors.extend(cursor.anchor.map(|anchor| (cursor.partition, anchor)));
        }
        Ok(facts)
    }
}
