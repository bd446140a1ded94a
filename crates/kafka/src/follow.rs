//! Following a topic outside any group, as `tail` does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contract::Record;
use rdkafka::{Offset, consumer::BaseConsumer};

use super::{
    Settings, SourceError, client,
    context::Context,
    liveness::{Probed as _, Query},
    reader::Reader,
};

/// For one count of the topic's partitions, in addition to the delay by a fetch.
const COUNT: Duration = Duration::from_secs(2);
/// Between two checks for added partitions.
const ADDED: Duration = Duration::from_secs(10);

/// Where to start in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first retained record.
    Beginning,
    /// The next record to be written.
    End,
}

/// Reads all partitions of a topic.
#[derive(Debug)]
pub struct Follower {
    reader: Reader,
    settings: Settings,
    topic: String,
    partitions: i32,
    count_at: Instant,
    counting: Query<Result<usize, String>>,
    stops: bool,
}

impl Follower {
    /// Starts in this number of partitions, at their beginnings or at their current ends.
    pub fn start(
        settings: &Settings,
        topic: &str,
        partitions: usize,
        start: Start,
    ) -> Result<Self, SourceError> {
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        let mut reader = Reader::new(settings)?;
        match start {
            Start::Beginning => {
                reader.start(topic, (0..partitions).map(|partition| (partition, Offset::Beginning)))?;
            }
            Start::End => {
                // Numbers, because "the end" would be that of the first fetch.
                let ends = reader.offsets_at(topic, 0..partitions, Offset::End)?;
                reader.start(
                    topic,
                    ends.into_iter().map(|(partition, end)| (partition, Offset::Offset(end))),
                )?;
            }
        }
        Ok(Self {
            reader,
            settings: settings.clone(),
            topic: topic.to_owned(),
            partitions,
            count_at: Instant::now() + ADDED,
            counting: Query::default(),
            stops: false,
        })
    }

    /// Stops at the current ends.
    pub fn stop_at_ends(&mut self) -> Result<(), SourceError> {
        let place = |place| self.reader.offsets_at(&self.topic, self.reader.partitions(), place);
        let (starts, ends) = (place(Offset::Beginning)?, place(Offset::End)?);
        // Nothing comes from an empty partition.
        let ends = starts.into_iter().zip(ends).filter(|(start, end)| start.1 < end.1).map(|(_, end)| end);
        let ends: Vec<_> = ends.collect();
        self.reader.stop_at(ends);
        self.stops = true;
        Ok(())
    }

    /// Whether it has reached all ends at which it stops.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    /// The next record, if one arrives in time.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Record>, SourceError> {
        self.follow_added_partitions()?;
        self.reader.poll(timeout)
    }

    /// Reads added partitions from their beginnings: they were empty when this follower started.
    fn follow_added_partitions(&mut self) -> Result<(), SourceError> {
        // The ends are those of the partitions that existed at the start.
        if self.stops || Instant::now() < self.count_at {
            return Ok(());
        }
        let (consumer, topic) = (Arc::clone(self.reader.consumer()), self.topic.clone());
        let patience = COUNT + client::fetch_wait(&self.settings);
        let Some(counted) = self.counting.poll(self.count_at, move || count(&consumer, &topic, patience))
        else {
            return Ok(());
        };
        self.count_at = Instant::now() + ADDED;
        let count = match counted.flatten() {
            Ok(count) => i32::try_from(count).unwrap_or(i32::MAX),
            // The reader notices unreachable brokers.
            Err(reason) => {
                tracing::debug!(reason, "could not count the topic's partitions");
                return Ok(());
            }
        };
        if count > self.partitions {
            tracing::debug!(from = self.partitions, to = count, "partitions were added to the topic");
            let added: Vec<_> =
                (self.partitions..count).map(|partition| (partition, Offset::Beginning)).collect();
            self.reader.add(&added)?;
            self.partitions = count;
        }
        Ok(())
    }
}

fn count(consumer: &BaseConsumer<Context>, topic: &str, patience: Duration) -> Result<usize, String> {
    let found = consumer.metadata(topic, patience).map_err(|error| error.to_string())?;
    let found = found.topics().iter().find(|found| found.name() == topic);
    found.map(|found| found.partitions().len()).ok_or_else(|| "the answer lacks the topic".to_owned())
}
