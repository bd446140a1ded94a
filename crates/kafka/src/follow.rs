//! Following a topic outside any group, as `tail` does.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use contract::Record;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    Settings, SourceError,
    access::{Access, Operation, Resource},
    client,
    consumer::{offsets, record_of},
    member::{Leaving, Member},
    reach::{Asking, Partitions, Reach, partitions, reach},
    scan::{patiently, whole},
};

/// For the ends of all partitions.
const ASK: Duration = Duration::from_secs(10);
/// After so long without a record the brokers are asked for a sign, and again and again.
const SILENCE: Duration = Duration::from_secs(10);

/// Between two looks for partitions that were added to the topic.
const ADDED: Duration = Duration::from_secs(10);

/// Where to start in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first record that is still retained.
    Beginning,
    /// The first record that is not there yet.
    End,
}

/// Says once when nobody answers any more; librdkafka goes on trying.
#[derive(Default)]
struct Watching {
    said: AtomicBool,
}

impl ClientContext for Watching {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            if !self.said.swap(true, Ordering::Relaxed) {
                tracing::warn!("no broker answers any more; waiting for one");
            }
        } else {
            client::client_error(&error, reason);
        }
    }
}

impl ConsumerContext for Watching {}

impl Leaving for Watching {}

/// Reads all partitions of a topic, only what is committed, and leaves no trace on the brokers.
pub struct Follower {
    consumer: Member<Watching>,
    settings: Settings,
    topic: String,
    /// Of each partition, where a client that takes this one's place goes on.
    places: BTreeMap<i32, Offset>,
    /// The ends to stop at, of the partitions that are not there yet; `None`: it never stops.
    ends: Option<BTreeMap<i32, i64>>,
    /// The last sign of brokers.
    since: Instant,
    ask_at: Instant,
    asking: Asking<Reach>,
    /// When the topic is next looked at for partitions that were added.
    count_at: Instant,
    counting: Asking<Partitions>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Follower {
    /// Starts at the beginnings, or at the ends as they are now, of that many partitions.
    pub fn start(
        settings: &Settings,
        topic: &str,
        partitions: usize,
        start: Start,
    ) -> Result<Self, SourceError> {
        let consumer = reader(settings)?;
        let failed = |error: KafkaError| failure(settings, topic, &error);
        let offset = match start {
            Start::Beginning => Offset::Beginning,
            Start::End => Offset::End,
        };
        let places = (0..i32::try_from(partitions).unwrap_or(i32::MAX)).map(|partition| (partition, offset));
        let mut list = list(topic, places).map_err(failed)?;
        if start == Start::End {
            // Numbers instead of "the end", which would be where it is when the first fetch comes to it.
            let asked = patiently(ASK, |within| whole(consumer.offsets_for_times(list.clone(), within)?));
            list = asked.map_err(failed)?;
        }
        consumer.assign(&list).map_err(failed)?;
        let now = Instant::now();
        Ok(Self {
            consumer,
            settings: settings.clone(),
            topic: topic.to_owned(),
            ends: None,
            places: list.elements().iter().map(|place| (place.partition(), place.offset())).collect(),
            since: now,
            ask_at: now + SILENCE,
            asking: Asking::default(),
            count_at: now + ADDED,
            counting: Asking::default(),
        })
    }

    /// Stops at the ends that the partitions have now: those of what is committed, since an open transaction can hold
    /// back what lies behind it for as long as it likes.
    pub fn stop_at_ends(&mut self) -> Result<(), SourceError> {
        let ask = |offset| {
            let places = self.places.keys().map(|&partition| (partition, offset));
            let asked = list(&self.topic, places).and_then(|list| {
                patiently(ASK, |within| whole(self.consumer.offsets_for_times(list.clone(), within)?))
            });
            asked.map(|list| offsets(&list)).map_err(|error| failure(&self.settings, &self.topic, &error))
        };
        let starts: BTreeMap<i32, Option<i64>> = ask(Offset::Beginning)?.into_iter().collect();
        let mut ends = BTreeMap::new();
        for (partition, end) in ask(Offset::End)? {
            let start = match self.places.get(&partition) {
                Some(Offset::Offset(offset)) => Some(*offset),
                _ => starts.get(&partition).copied().flatten(),
            };
            let (Some(start), Some(end)) = (start, end) else {
                let topic = &self.topic;
                return Err(SourceError::Fatal(format!(
                    "the broker does not say where partition {partition} of the topic '{topic}' begins and ends"
                )));
            };
            if start < end {
                ends.insert(partition, end);
            }
        }
        self.ends = Some(ends);
        Ok(())
    }

    /// Whether all ends are reached that it stops at.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ends.as_ref().is_some_and(BTreeMap::is_empty)
    }

    /// The next record, if one arrives in time. None from beyond the ends that it stops at.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Record>, SourceError> {
        self.follow_added_partitions()?;
        match self.consumer.poll(timeout) {
            None => {
                self.pass_over()?;
                self.listen().map(|()| None)
            }
            Some(Ok(message)) => {
                self.consumer.context().said.store(false, Ordering::Relaxed);
                let record = record_of(&message);
                let at = record.coordinates;
                self.places.insert(at.partition, Offset::Offset(at.offset + 1));
                self.since = Instant::now();
                self.ask_at = self.since + SILENCE;
                if self.is_beyond(at.partition, at.offset) {
                    // Others may have reached their ends without a record to show.
                    self.pass_over()?;
                    return Ok(None);
                }
                Ok(Some(record))
            }
            Some(Err(error)) if is_lasting(&error) => Err(failure(&self.settings, &self.topic, &error)),
            Some(Err(error)) => {
                tracing::debug!(%error, "while following");
                Ok(None)
            }
        }
    }
}

impl Follower {
    /// Reads partitions that were added to the topic, each from its beginning: nothing was in it when this one started.
    fn follow_added_partitions(&mut self) -> Result<(), SourceError> {
        // An end that is stopped at is that of the partitions there were.
        if self.ends.is_some() || Instant::now() < self.count_at {
            return Ok(());
        }
        let (consumer, settings) = (Arc::clone(&self.consumer), self.settings.clone());
        let topic = self.topic.clone();
        let asked =
            self.counting.answer(self.count_at, move || partitions(consumer.client(), &settings, &topic));
        let Some(told) = asked else { return Ok(()) };
        self.count_at = Instant::now() + ADDED;
        let count = match told {
            Partitions::Count(count) => i32::try_from(count).unwrap_or(i32::MAX),
            // The brokers are asked for a sign elsewhere.
            Partitions::Unknown(reason) => {
                tracing::debug!(reason, "could not count the topic's partitions");
                return Ok(());
            }
        };
        let known = self.places.last_key_value().map_or(0, |(&last, _)| last + 1);
        if count > known {
            tracing::debug!(from = known, to = count, "partitions were added to the topic");
            let added: Vec<_> = (known..count).map(|partition| (partition, Offset::Beginning)).collect();
            let assigned = list(&self.topic, added.iter().copied())
                .and_then(|list| self.consumer.incremental_assign(&list));
            assigned.map_err(|error| failure(&self.settings, &self.topic, &error))?;
            self.places.extend(added);
        }
        Ok(())
    }

    /// Whether the record lies beyond the end that its partition is to stop at, which it reaches now at the latest.
    fn is_beyond(&mut self, partition: i32, offset: i64) -> bool {
        let Some(ends) = &mut self.ends else { return false };
        let Some(&end) = ends.get(&partition) else { return true };
        if offset + 1 >= end {
            ends.remove(&partition);
        }
        offset >= end
    }

    /// Follows the position over what is not shown: control records, and records of aborted transactions.
    fn pass_over(&mut self) -> Result<(), SourceError> {
        let Some(ends) = self.ends.as_mut().filter(|ends| !ends.is_empty()) else { return Ok(()) };
        let positions =
            self.consumer.position().map_err(|error| failure(&self.settings, &self.topic, &error))?;
        for (partition, position) in offsets(&positions) {
            if ends.get(&partition).is_some_and(|end| position.is_some_and(|position| position >= *end)) {
                ends.remove(&partition);
            }
        }
        Ok(())
    }

    /// Asks for a sign of the brokers where there was none for long; where a new client would get one, one goes on.
    fn listen(&mut self) -> Result<(), SourceError> {
        if Instant::now() < self.ask_at {
            return Ok(());
        }
        let (consumer, settings) = (Arc::clone(&self.consumer), self.settings.clone());
        let topic = self.topic.clone();
        let asked = self.asking.answer(self.since, move || reach(consumer.client(), &settings, &topic));
        let Some(reach) = asked else { return Ok(()) };
        tracing::debug!(?reach, "asked the brokers for a sign");
        self.ask_at = Instant::now() + SILENCE;
        if reach == Reach::Lost {
            tracing::warn!("the Kafka client lost the brokers; a new one goes on where it was");
            let consumer = reader(&self.settings)?;
            let places = self.places.iter().map(|(&partition, &offset)| (partition, offset));
            let assigned = list(&self.topic, places).and_then(|list| consumer.assign(&list));
            assigned.map_err(|error| failure(&self.settings, &self.topic, &error))?;
            self.consumer = consumer;
        }
        Ok(())
    }
}

fn reader(settings: &Settings) -> Result<Member<Watching>, SourceError> {
    let reader = client::reader(settings).create_with_context(Watching::default());
    reader
        .map(Member::new)
        .map_err(|error| SourceError::Fatal(format!("the Kafka reader can't be made: {error}")))
}

fn list(
    topic: &str,
    places: impl IntoIterator<Item = (i32, Offset)>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in places {
        list.add_partition_offset(topic, partition, offset)?;
    }
    Ok(list)
}

/// What librdkafka does not mend by trying again.
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

/// Whether the broker lets this user do nothing with the group. A reader never asks anything of its group, whose name only
/// librdkafka wants, so it needs no right on it.
pub fn is_group_denied(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}

pub fn failure(settings: &Settings, topic: &str, error: &KafkaError) -> SourceError {
    SourceError::Fatal(match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => format!(
            "the topic '{topic}' no longer holds the record that comes next: it was deleted, or the topic was \
             made anew. Start again"
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
