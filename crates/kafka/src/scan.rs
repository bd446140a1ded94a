//! Reading ranges of offsets, as often as needed, outside any group.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{ControlFlow, Range},
    time::Duration,
};

use contract::Record;
use rdkafka::{
    Offset,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};

pub use super::reader::Unread;
use super::{
    Bounds, Settings, SourceError,
    access::{Access, Operation},
    client,
    context::Context,
    mark::Committed,
    offsets,
    reader::{Reader, failure, is_group_denied, patiently},
};

/// For one question to the brokers.
const ASK: Duration = Duration::from_secs(15);
/// Without progress for so long, the rest counts as unreadable. An abandoned transaction hides what follows until the
/// broker aborts it.
const PATIENCE: Duration = Duration::from_millis(client::TRANSACTION_TIMEOUT_MS as u64 * 3 / 2);
/// How soon a wait notices that the position moved past hidden records.
const SLICE: Duration = Duration::from_millis(20);

pub struct Scanner {
    reader: Reader,
    /// Asks for the group's offsets without being a member, and sees uncommitted records.
    asker: BaseConsumer<Context>,
    settings: Settings,
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner").finish_non_exhaustive()
    }
}

impl Scanner {
    pub fn new(settings: &Settings) -> Result<Self, SourceError> {
        let asker = client::reader(settings)
            .set("group.id", &settings.group)
            .set("isolation.level", "read_uncommitted")
            .create_with_context(Context::default())
            .map_err(|error| SourceError::Fatal(format!("the Kafka reader can't be made: {error}")))?;
        let reader = Reader::new(settings)?;
        Ok(Self { reader, asker, settings: settings.clone() })
    }

    /// The group's committed offset of each partition of the commands topic. Never waits for a transaction: one that is
    /// about to end counts as uncommitted.
    pub fn committed(&self, partitions: usize) -> Result<Vec<Option<Committed>>, SourceError> {
        let topic = &self.settings.topics.commands;
        let group = &self.settings.group;
        let failed = |error: &KafkaError| {
            let access = Access::of(&self.settings);
            let lacking = access.lacking(error, (Operation::Describe, topic), (Operation::Describe, group));
            SourceError::Fatal(lacking.unwrap_or_else(|| {
                format!("the group '{group}' does not tell its committed offsets of '{topic}': {error}")
            }))
        };
        let all: Vec<i32> = numbers(partitions).collect();
        let found = patiently(ASK, |within| offsets::committed(&self.asker, topic, &all, within));
        // Where the group may not be described, librdkafka says why there is no coordinator by a poll only, and then waits
        // for one in vain.
        let found = found.map_err(|error| match self.asker.poll(Duration::ZERO) {
            Some(Err(reason)) if is_group_denied(&reason) => failed(&reason),
            _ => failed(&error),
        })?;
        let found: BTreeMap<i32, Option<Committed>> = found.into_iter().collect();
        Ok(all.into_iter().map(|partition| found.get(&partition).copied().flatten()).collect())
    }

    /// Where each partition starts and ends, including records of open transactions.
    pub fn bounds(&self, topic: &str, partitions: usize) -> Result<Vec<Bounds>, SourceError> {
        let bounds = numbers(partitions).map(|partition| {
            let (start, end) = patiently(ASK, |within| self.asker.fetch_watermarks(topic, partition, within))
                .map_err(|error| failure(&self.settings, topic, &error))?;
            Ok(Bounds { start, end })
        });
        bounds.collect()
    }

    /// Gives every committed record in these ranges to `each`, in order within a partition, until that breaks. Returns what
    /// was not read because an open transaction hides it.
    pub fn read<E: From<SourceError>>(
        &mut self,
        topic: &str,
        wanted: &[(i32, Range<i64>)],
        mut each: impl FnMut(Record) -> Result<ControlFlow<()>, E>,
    ) -> Result<Vec<Unread>, E> {
        let wanted = || wanted.iter().filter(|(_, offsets)| !offsets.is_empty());
        self.reader
            .start(topic, wanted().map(|(partition, offsets)| (*partition, Offset::Offset(offsets.start))))?;
        self.reader.stop_at(wanted().map(|(partition, offsets)| (*partition, offsets.end)));
        while !self.reader.is_done() {
            if let Some(record) = self.reader.poll(SLICE)? {
                if each(record)?.is_break() {
                    return Ok(Vec::new());
                }
            } else if self.reader.idle() > PATIENCE {
                break;
            }
        }
        Ok(self.reader.unread())
    }
}

fn numbers(partitions: usize) -> impl Iterator<Item = i32> {
    0..i32::try_from(partitions).unwrap_or(i32::MAX)
}
