//! Reading topics from one offset to another, as often as it is wanted, outside any group.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{ControlFlow, Range},
    thread,
    time::{Duration, Instant},
};

use contract::Record;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    Bounds, Settings, SourceError,
    access::{Access, Operation},
    client,
    consumer::{offset_list, offsets, record_of},
    follow::{failure, is_group_denied, is_lasting},
    mark::Committed,
    native,
};

/// For one question to the brokers.
const ASK: Duration = Duration::from_secs(15);
/// How long nothing at all may arrive before what is left counts as unreadable. A transaction that its owner left
/// open holds back what lies behind it until the broker aborts it.
const PATIENCE: Duration = Duration::from_millis(client::TRANSACTION_TIMEOUT_MS as u64 * 3 / 2);
/// How soon a wait notices that the position moved over records that are not shown.
const SLICE: Duration = Duration::from_millis(20);
/// Between two questions of the same kind.
const AGAIN: Duration = Duration::from_millis(200);

/// Offsets of a partition that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    pub partition: i32,
    pub offsets: Range<i64>,
}

/// Reads only what is committed, and leaves no trace on the brokers.
pub struct Scanner {
    reader: BaseConsumer<client::Logging>,
    /// Asks in the group's name, without being a member, and sees what is not committed yet.
    asker: BaseConsumer<client::Logging>,
    settings: Settings,
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner").finish_non_exhaustive()
    }
}

impl Scanner {
    pub fn new(settings: &Settings) -> Result<Self, SourceError> {
        let made = |config: &mut rdkafka::ClientConfig| {
            config
                .create_with_context(client::Logging)
                .map_err(|error| SourceError::Fatal(format!("the Kafka reader can't be made: {error}")))
        };
        let reader = made(&mut client::reader(settings))?;
        let asker = made(
            client::reader(settings)
                .set("group.id", &settings.group)
                .set("isolation.level", "read_uncommitted"),
        )?;
        Ok(Self { reader, asker, settings: settings.clone() })
    }

    /// The group's committed offset of each partition of the commands topic; never waits for a transaction, so
    /// one whose end is on its way counts as not committed.
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
        let mut list = TopicPartitionList::new();
        for partition in numbers(partitions) {
            list.add_partition_offset(topic, partition, Offset::Invalid).map_err(|error| failed(&error))?;
        }
        let list = patiently(ASK, |within| whole(self.asker.committed_offsets(list.clone(), within)?));
        // Where the group may not be described, librdkafka says why there is no coordinator by a poll only, and then waits
        // for one in vain.
        let list = list.map_err(|error| match self.asker.poll(Duration::ZERO) {
            Some(Err(reason)) if is_group_denied(&reason) => failed(&reason),
            _ => failed(&error),
        })?;
        let found: BTreeMap<i32, Option<Committed>> = native::committed(&list).into_iter().collect();
        Ok(numbers(partitions).map(|partition| found.get(&partition).copied().flatten()).collect())
    }

    /// Where each partition begins and ends, records of open transactions included.
    pub fn bounds(&self, topic: &str, partitions: usize) -> Result<Vec<Bounds>, SourceError> {
        let bounds = numbers(partitions).map(|partition| {
            let (start, end) = patiently(ASK, |within| self.asker.fetch_watermarks(topic, partition, within))
                .map_err(|error| failure(&self.settings, topic, &error))?;
            Ok(Bounds { start, end })
        });
        bounds.collect()
    }

    /// Gives every committed record of these partitions and offsets to `each`, in order within a partition, until
    /// that breaks off. Says what could not be read because an open transaction holds it back.
    pub fn read<E: From<SourceError>>(
        &self,
        topic: &str,
        wanted: &[(i32, Range<i64>)],
        mut each: impl FnMut(Record) -> Result<ControlFlow<()>, E>,
    ) -> Result<Vec<Unread>, E> {
        let starts: Vec<_> = wanted
            .iter()
            .filter(|(_, offsets)| !offsets.is_empty())
            .map(|(partition, offsets)| (*partition, offsets.start))
            .collect();
        let mut left: BTreeMap<i32, Range<i64>> = wanted
            .iter()
            .filter(|(_, offsets)| !offsets.is_empty())
            .map(|(partition, offsets)| (*partition, offsets.clone()))
            .collect();
        let failed = |error: KafkaError| failure(&self.settings, topic, &error);
        // Of a reading that broke off.
        self.reader.unassign().map_err(failed)?;
        if !starts.is_empty() {
            self.reader.incremental_assign(&offset_list(topic, &starts)).map_err(failed)?;
        }
        let mut moved = Instant::now();
        while !left.is_empty() {
            let record = match self.reader.poll(SLICE) {
                Some(Ok(message)) => record_of(&message),
                Some(Err(error)) if is_lasting(&error) => return Err(failed(error).into()),
                nothing => {
                    if let Some(Err(error)) = nothing {
                        tracing::debug!(%error, "while reading");
                    }
                    if self.pass_over(topic, &mut left)? {
                        moved = Instant::now();
                    } else if moved.elapsed() > PATIENCE {
                        break;
                    }
                    continue;
                }
            };
            moved = Instant::now();
            let at = record.coordinates;
            let Some(offsets) = left.get_mut(&at.partition) else { continue };
            offsets.start = at.offset + 1;
            let (is_wanted, is_last) = (at.offset < offsets.end, at.offset + 1 >= offsets.end);
            if is_wanted && each(record)?.is_break() {
                left.clear();
            } else if is_last {
                self.finish(topic, at.partition, &mut left)?;
            }
        }
        Ok(left.into_iter().map(|(partition, offsets)| Unread { partition, offsets }).collect())
    }

    /// Follows the position over what is not shown: control records, and records of aborted transactions.
    fn pass_over(&self, topic: &str, left: &mut BTreeMap<i32, Range<i64>>) -> Result<bool, SourceError> {
        let positions = self.reader.position().map_err(|error| failure(&self.settings, topic, &error))?;
        let mut moved = false;
        for (partition, position) in offsets(&positions) {
            let (Some(offsets), Some(position)) = (left.get_mut(&partition), position) else { continue };
            if position > offsets.start {
                offsets.start = position;
                moved = true;
            }
            if offsets.is_empty() {
                self.finish(topic, partition, left)?;
            }
        }
        Ok(moved)
    }

    /// What comes after the last wanted offset need not be fetched. (A pause would outlive the assignment.)
    fn finish(
        &self,
        topic: &str,
        partition: i32,
        left: &mut BTreeMap<i32, Range<i64>>,
    ) -> Result<(), SourceError> {
        left.remove(&partition);
        let list = offset_list(topic, &[(partition, 0)]);
        self.reader.incremental_unassign(&list).map_err(|error| failure(&self.settings, topic, &error))
    }
}

/// Asks again while the answer is one that passes, as where a partition is getting another leader; for so long at most.
pub(super) fn patiently<T>(
    within: Duration,
    ask: impl Fn(Duration) -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ask(left) {
            Err(error) if passes(&error) && left > SLICE => thread::sleep(AGAIN.min(left)),
            answer => return answer,
        }
    }
}

/// An error of one partition is one of the answer.
pub(super) fn whole(list: TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
    match list.elements().iter().find_map(|element| element.error().err()) {
        Some(error) => Err(error),
        None => Ok(list),
    }
}

/// Whether a broker that answers so may answer otherwise in a moment.
fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::ReplicaNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::OffsetNotAvailable
                | Code::KafkaStorageError
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
                | Code::NetworkException
                | Code::RequestTimedOut
                | Code::BrokerTransportFailure
        )
    )
}

fn numbers(partitions: usize) -> impl Iterator<Item = i32> {
    0..i32::try_from(partitions).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn answers(codes: &[RDKafkaErrorCode], within: Duration) -> (Result<u32, KafkaError>, u32) {
        let asked = Cell::new(0);
        let answer = patiently(within, |_| {
            let number = asked.replace(asked.get() + 1);
            codes.get(number as usize).map_or(Ok(7), |&code| Err(KafkaError::MetadataFetch(code)))
        });
        (answer, asked.get())
    }

    #[test]
    fn a_partition_that_is_getting_another_leader_is_asked_about_again() {
        use RDKafkaErrorCode::{NotLeaderForPartition, TopicAuthorizationFailed};
        let long = Duration::from_secs(60);
        assert_eq!(answers(&[], long), (Ok(7), 1));
        assert_eq!(answers(&[NotLeaderForPartition; 2], long), (Ok(7), 3));
        let denied = Err(KafkaError::MetadataFetch(TopicAuthorizationFailed));
        assert_eq!(answers(&[TopicAuthorizationFailed], long), (denied, 1));
        let (answer, asked) = answers(&[NotLeaderForPartition; 1_000], Duration::from_millis(500));
        assert_eq!(answer, Err(KafkaError::MetadataFetch(NotLeaderForPartition)));
        assert!(asked > 1);
    }
}
