//! The one reader outside any group. It sees only committed records, and leaves no trace on the brokers.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use contract::Record;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    Settings, SourceError,
    access::{Access, Operation, Resource},
    client,
    context::{Context, client_error},
    liveness::Liveness,
    member::Member,
    offsets::{offset_list, offsets, whole},
    records::record_of,
    repeats::{self, Origin},
};

/// For the offsets of all partitions.
const ASK: Duration = Duration::from_secs(10);
/// Between two questions of the same kind.
const AGAIN: Duration = Duration::from_millis(200);

/// Offsets of a partition that were not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    pub partition: i32,
    pub offsets: Range<i64>,
}

/// Reads partitions of one topic, for ever or up to an end each. Replaces its Kafka client when that is stuck.
pub struct Reader {
    settings: Settings,
    config: ClientConfig,
    consumer: Member,
    topic: String,
    /// Where a new client would continue in each partition.
    next: BTreeMap<i32, Offset>,
    /// The ends that are not reached; `None`: read for ever.
    ends: Option<BTreeMap<i32, i64>>,
    moved_at: Instant,
    liveness: Liveness,
    /// Whether the current outage was reported; `None` if outages are not reported.
    outage: Option<Arc<AtomicBool>>,
    /// Reports an error after which librdkafka retries.
    on_passing_error: fn(&KafkaError),
    last_error: Option<String>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Reader {
    /// For a subcommand: reports an outage once. Reads nothing yet.
    pub fn new(settings: &Settings) -> Result<Self, SourceError> {
        Self::make(settings, client::reader(settings), Some(Arc::default()))
    }

    /// For use in the background, with other properties than [`client::reader`] has.
    pub fn with_config(settings: &Settings, config: ClientConfig) -> Result<Self, SourceError> {
        Self::make(settings, config, None)
    }

    fn make(
        settings: &Settings,
        config: ClientConfig,
        outage: Option<Arc<AtomicBool>>,
    ) -> Result<Self, SourceError> {
        Ok(Self {
            settings: settings.clone(),
            consumer: consumer(&config, outage.clone())?,
            config,
            topic: String::new(),
            next: BTreeMap::new(),
            ends: None,
            moved_at: Instant::now(),
            liveness: Liveness::new(settings, ""),
            outage,
            on_passing_error: |error| tracing::debug!(%error, "while reading"),
            last_error: None,
        })
    }

    /// Reports errors after which librdkafka retries; by default they are logged at `debug`.
    #[must_use]
    pub fn on_passing_error(self, take: fn(&KafkaError)) -> Self {
        Self { on_passing_error: take, ..self }
    }

    /// Reads these partitions of a topic, in place of those before.
    pub fn start(
        &mut self,
        topic: &str,
        from: impl IntoIterator<Item = (i32, Offset)>,
    ) -> Result<(), SourceError> {
        topic.clone_into(&mut self.topic);
        self.next = from.into_iter().collect();
        self.ends = None;
        self.moved_at = Instant::now();
        self.liveness = Liveness::new(&self.settings, topic);
        self.assign(&self.consumer).map_err(|error| self.failure(&error))
    }

    /// Reads these partitions as well.
    pub fn add(&mut self, from: &[(i32, Offset)]) -> Result<(), SourceError> {
        let added =
            list(&self.topic, from.iter().copied()).and_then(|list| self.consumer.incremental_assign(&list));
        added.map_err(|error| self.failure(&error))?;
        self.next.extend(from.iter().copied());
        Ok(())
    }

    /// Stops each partition at its end. A partition without an end stops at once.
    pub fn stop_at(&mut self, ends: impl IntoIterator<Item = (i32, i64)>) {
        let is_before = |partition: &i32, end: i64| match self.next.get(partition) {
            Some(Offset::Offset(next)) => *next < end,
            next => next.is_some(),
        };
        self.ends = Some(ends.into_iter().filter(|(partition, end)| is_before(partition, *end)).collect());
    }

    /// Whether all ends are reached.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ends.as_ref().is_some_and(BTreeMap::is_empty)
    }

    /// What is left to read up to the ends.
    #[must_use]
    pub fn unread(&self) -> Vec<Unread> {
        let unread = |(&partition, &end): (&i32, &i64)| match self.next.get(&partition) {
            Some(Offset::Offset(next)) => Unread { partition, offsets: *next..end },
            _ => Unread { partition, offsets: 0..end },
        };
        self.ends.iter().flatten().map(unread).collect()
    }

    /// The time since the last progress.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.moved_at.elapsed()
    }

    pub(crate) fn consumer(&self) -> &Member {
        &self.consumer
    }

    /// The partitions that are being read.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = i32> {
        self.next.keys().copied()
    }

    pub(crate) fn has_reached_end(&self, partition: i32) -> bool {
        self.ends.as_ref().is_some_and(|ends| !ends.contains_key(&partition))
    }

    /// The last error after which librdkafka retried.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// The start or the end of each partition, as a `read_committed` consumer sees them: an open transaction hides
    /// everything after its first record.
    pub fn offsets_at(
        &self,
        topic: &str,
        partitions: impl IntoIterator<Item = i32>,
        place: Offset,
    ) -> Result<Vec<(i32, i64)>, SourceError> {
        let asked =
            list(topic, partitions.into_iter().map(|partition| (partition, place))).and_then(|list| {
                patiently(ASK, |within| whole(self.consumer.offsets_for_times(list.clone(), within)?))
            });
        let found = asked.map_err(|error| failure(&self.settings, topic, &error))?;
        let known = offsets(&found).into_iter().map(|(partition, offset)| {
            let unknown = || {
                SourceError::Fatal(format!(
                    "the broker does not say where partition {partition} of the topic '{topic}' begins and ends"
                ))
            };
            Ok((partition, offset.ok_or_else(unknown)?))
        });
        known.collect()
    }

    /// The next record, if one arrives in time.
    ///
    /// # Errors
    ///
    /// [`SourceError::Fatal`] if a retry does not help.
    pub fn poll(&mut self, timeout: Duration) -> Result<Option<Record>, SourceError> {
        let polled = self.consumer.poll(timeout).map(|polled| polled.map(|message| record_of(&message)));
        match polled {
            Some(Ok(record)) => self.take(record),
            Some(Err(KafkaError::PartitionEOF(partition))) => self.finish(partition).map(|()| None),
            Some(Err(error)) if is_lasting(&error) => Err(self.failure(&error)),
            nothing => {
                if let Some(Err(error)) = nothing
                    && !is_group_denied(&error)
                {
                    (self.on_passing_error)(&error);
                    self.last_error = Some(error.to_string());
                }
                self.pass_over()?;
                self.replace_if_stuck();
                Ok(None)
            }
        }
    }

    fn take(&mut self, record: Record) -> Result<Option<Record>, SourceError> {
        if let Some(outage) = &self.outage {
            outage.store(false, Ordering::Relaxed);
        }
        self.liveness.heard();
        self.moved_at = Instant::now();
        let at = record.coordinates;
        let Some(next) = self.next.get_mut(&at.partition) else { return Ok(None) };
        *next = Offset::Offset(at.offset + 1);
        let Some(ends) = &self.ends else { return Ok(Some(record)) };
        let end = ends.get(&at.partition).copied().unwrap_or(0);
        if at.offset + 1 >= end {
            self.finish(at.partition)?;
        }
        Ok((at.offset < end).then_some(record))
    }

    /// Moves past hidden records: control records, and those of aborted transactions.
    fn pass_over(&mut self) -> Result<(), SourceError> {
        let Some(ends) = self.ends.as_ref().filter(|ends| !ends.is_empty()) else { return Ok(()) };
        let positions = self.consumer.position().map_err(|error| self.failure(&error))?;
        let mut reached = Vec::new();
        for (partition, position) in offsets(&positions) {
            let (Some(end), Some(position)) = (ends.get(&partition), position) else { continue };
            let next = self.next.entry(partition).or_insert(Offset::Invalid);
            // A position from before the last record says nothing new.
            if !matches!(next, Offset::Offset(next) if *next >= position) {
                *next = Offset::Offset(position);
                self.moved_at = Instant::now();
            }
            if position >= *end {
                reached.push(partition);
            }
        }
        reached.into_iter().try_for_each(|partition| self.finish(partition))
    }

    /// Stops fetching the partition. (A pause would outlive the assignment.)
    fn finish(&mut self, partition: i32) -> Result<(), SourceError> {
        if self.next.contains_key(&partition) {
            let list = offset_list(&self.topic, &[(partition, 0)]);
            self.consumer.incremental_unassign(&list).map_err(|error| self.failure(&error))?;
            self.next.remove(&partition);
        }
        // Last: if the partition could not be finished, it has not reached its end.
        if let Some(ends) = &mut self.ends {
            ends.remove(&partition);
        }
        Ok(())
    }

    fn replace_if_stuck(&mut self) {
        if !self.liveness.is_client_stuck(&self.consumer) {
            return;
        }
        tracing::warn!("the Kafka client lost the brokers; continuing with a new one");
        let renewed = consumer(&self.config, self.outage.clone()).and_then(|consumer| {
            self.assign(&consumer).map_err(|error| self.failure(&error))?;
            Ok(consumer)
        });
        match renewed {
            Ok(consumer) => self.consumer = consumer,
            Err(reason) => repeats::warn(Origin::Program, &format!("{reason}; trying again later")),
        }
    }

    /// Assigns what is left to read.
    fn assign(&self, consumer: &Member) -> Result<(), KafkaError> {
        consumer.assign(&list(&self.topic, self.next.iter().map(|(&partition, &next)| (partition, next)))?)
    }

    fn failure(&self, error: &KafkaError) -> SourceError {
        failure(&self.settings, &self.topic, error)
    }
}

fn consumer(config: &ClientConfig, outage: Option<Arc<AtomicBool>>) -> Result<Member, SourceError> {
    let context = Context::default();
    let context = match outage {
        None => context,
        Some(outage) => context.on_error(move |error, reason| {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
                client_error(error, reason);
            } else if !outage.swap(true, Ordering::Relaxed) {
                tracing::warn!("no broker answers any more; waiting for one");
            }
        }),
    };
    let consumer = config.create_with_context(context);
    consumer
        .map(Member::new)
        .map_err(|error| SourceError::Fatal(format!("the Kafka reader can't be made: {error}")))
}

fn list(
    topic: &str,
    places: impl IntoIterator<Item = (i32, Offset)>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, place) in places {
        list.add_partition_offset(topic, partition, place)?;
    }
    Ok(list)
}

/// Whether a retry does not help.
pub fn is_lasting(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            code,
            Some(
                RDKafkaErrorCode::AutoOffsetReset
                    | RDKafkaErrorCode::OffsetOutOfRange
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownPartition
                    | RDKafkaErrorCode::TopicAuthorizationFailed
            )
        )
}

/// Whether this user may not use the group. A reader never uses its group, which only librdkafka wants named, so it needs
/// no right on it.
pub fn is_group_denied(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}

pub fn failure(settings: &Settings, topic: &str, error: &KafkaError) -> SourceError {
    SourceError::Fatal(match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => format!(
            "the topic '{topic}' no longer holds the next record: it was deleted, or the topic was \
             created again. Start again"
        ),
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition,
        ) => format!("the topic '{topic}' is not there"),
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            Access::of(settings).lacks(Operation::Read, Resource::Topic(topic))
        }
        Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
            Access::of(settings).lacks(Operation::Read, Resource::Group(&settings.group))
        }
        _ => format!("reading the topic '{topic}' failed: {error}"),
    })
}

/// Asks again while the error may pass, for example during a leader election; up to `within`.
pub(crate) fn patiently<T>(
    within: Duration,
    ask: impl Fn(Duration) -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ask(left) {
            Err(error) if passes(&error) && left > Duration::from_millis(20) => {
                thread::sleep(AGAIN.min(left));
            }
            answer => return answer,
        }
    }
}

/// Whether the broker may answer differently in a moment.
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
