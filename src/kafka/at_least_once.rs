//! At-least-once: everything delivered first, offsets after it. For brokers without transactions.

use std::{fmt, time::Duration};

use rdkafka::producer::BaseProducer;

use super::{
    OutputTopic, PublishError, Settings, Sink, client,
    consumer::{Committer, Membership},
    transactional::Deliveries,
};
use crate::activity::OutputRecord;

/// Longer than librdkafka's own retries of a record (`delivery.timeout.ms`).
const DELIVERY: Duration = Duration::from_secs(35);

/// The publisher without transactions.
pub struct AtLeastOnce {
    settings: Settings,
    committer: Committer,
    producer: Option<BaseProducer<Deliveries>>,
    deliveries: Deliveries,
}

impl fmt::Debug for AtLeastOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtLeastOnce").finish_non_exhaustive()
    }
}

impl AtLeastOnce {
    #[must_use]
    pub fn new(settings: &Settings, committer: Committer) -> Self {
        Self { settings: settings.clone(), committer, producer: None, deliveries: Deliveries::default() }
    }

    fn producer(&self) -> Result<&BaseProducer<Deliveries>, PublishError> {
        self.producer.as_ref().ok_or_else(|| PublishError::Unknown("there is no producer yet".into()))
    }
}

impl Sink for AtLeastOnce {
    type Membership = Membership;

    fn reset(&mut self) -> Result<(), PublishError> {
        self.producer = None;
        self.deliveries = Deliveries::default();
        let producer = client::producer(&self.settings)
            .set("delivery.timeout.ms", "30000")
            .create_with_context(self.deliveries.clone())
            .map_err(|error| PublishError::Fatal(format!("the Kafka producer can't be made: {error}")))?;
        self.producer = Some(producer);
        Ok(())
    }

    fn begin(&mut self) -> Result<(), PublishError> {
        self.producer().map(drop)
    }

    fn send(&mut self, topic: OutputTopic, record: &OutputRecord) -> Result<(), PublishError> {
        let name = match topic {
            OutputTopic::Notifications => &self.settings.topics.notifications,
            OutputTopic::Rejections => &self.settings.topics.rejections,
        };
        self.deliveries.send(self.producer()?, name, record)
    }

    fn commit(&mut self, offsets: &[(i32, i64)], _: &Membership) -> Result<(), PublishError> {
        self.deliveries.drain(self.producer()?, DELIVERY)?;
        self.committer.commit(offsets).map_err(|error| {
            // Everything is out, and will be out once more: that is the guarantee's name.
            PublishError::Unknown(format!("committing offsets: {error}"))
        })
    }

    fn abort(&mut self) -> Result<(), PublishError> {
        // What was sent can't be called back; a new producer forgets what was not.
        self.reset()
    }
}
