//! At-least-once: first the output, then the offsets. For brokers without transactions.

use std::{
    fmt,
    time::{Duration, Instant},
};

use contract::{OutputRef, ReplyRecord};
use rdkafka::error::RDKafkaErrorCode;

use super::{
    OutputTopic, PublishError, Settings, Sink,
    access::{Access, Operation, Resource},
    client,
    consumer::{Committer, Membership},
    deliveries::{Deliveries, Publisher, delivery_error, no_producer},
    mark::NextOffset,
    refusal::OutputRefusal,
    replies::{Refused, ReplyCounts, Routes},
    transactional::REPLIES,
};

/// Longer than librdkafka's own retries of a record (`delivery.timeout.ms`).
const DELIVERY: Duration = Duration::from_secs(35);

/// The publisher without transactions.
pub struct AtLeastOnce {
    settings: Settings,
    committer: Committer,
    batch_bytes: usize,
    producer: Option<Publisher>,
    deliveries: Deliveries,
    routes: Routes,
}

impl fmt::Debug for AtLeastOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtLeastOnce").finish_non_exhaustive()
    }
}

impl AtLeastOnce {
    /// Each of the two output topics has to take `batch_bytes` at once.
    #[must_use]
    pub fn new(settings: &Settings, committer: Committer, batch_bytes: usize) -> Self {
        Self {
            settings: settings.clone(),
            committer,
            batch_bytes,
            producer: None,
            deliveries: Deliveries::default(),
            routes: Routes::new(settings),
        }
    }

    fn producer(&self) -> Result<&Publisher, PublishError> {
        self.producer.as_ref().ok_or_else(no_producer)
    }

    /// Names the output topic that the brokers refuse, if they do.
    fn denied(&self, error: PublishError) -> PublishError {
        self.deliveries.take_denied().map_or(error, |topic| {
            let access = Access::of(&self.settings);
            PublishError::Fatal(access.lacks(Operation::Write, Resource::Topic(&topic)))
        })
    }

    /// Waits for own output as long as it takes, and shortly for replies, which can't undo a transaction here.
    fn drain(&mut self) -> Result<(), PublishError> {
        let producer = self.producer()?;
        let begun = Instant::now();
        if !self.deliveries.wait(producer, begun + REPLIES)
            && !self.deliveries.wait_for_own(producer, begun + DELIVERY)
        {
            return Err(PublishError::TimedOut("the broker did not confirm the records in time".into()));
        }
        if let Some((code, text)) = self.deliveries.take_failure() {
            return Err(self.denied(delivery_error(code, text)));
        }
        let code = RDKafkaErrorCode::MessageTimedOut;
        let late = self.deliveries.pending_replies();
        let (_, mut refused) = self.deliveries.take_replies();
        for (to, count) in &late {
            refused.extend(Refused::all(vec![to.clone(); *count], code));
        }
        refused.iter().for_each(|reply| self.routes.take_back(reply.code));
        self.routes.refuse(&refused);
        // A new producer forgets what the old one still tries.
        if late.is_empty() { Ok(()) } else { self.reset() }
    }
}

impl Sink for AtLeastOnce {
    type Membership = Membership;

    fn reset(&mut self) -> Result<(), PublishError> {
        self.producer = None;
        self.deliveries = Deliveries::default();
        let mut properties = client::producer(&self.settings, self.batch_bytes);
        properties.set("delivery.timeout.ms", "30000");
        self.producer = Some(self.deliveries.clone().publisher(&properties)?);
        Ok(())
    }

    fn begin(&mut self) -> Result<(), PublishError> {
        self.routes.begin();
        self.producer().map(drop)
    }

    fn send(&mut self, topic: OutputTopic, record: OutputRef<'_>) -> Result<(), PublishError> {
        let name = self.settings.topics.output(topic);
        self.deliveries.send(self.producer()?, name, record).map_err(|error| self.denied(error))
    }

    fn reply(&mut self, reply: &ReplyRecord) -> Result<(), PublishError> {
        let producer = self.producer.as_ref().ok_or_else(no_producer)?;
        self.routes.send(producer, reply)
    }

    fn commit(&mut self, offsets: &[NextOffset], _: &Membership) -> Result<ReplyCounts, PublishError> {
        self.drain()?;
        self.committer.commit(offsets).map_err(|error| {
            let (topic, group) = (&self.settings.topics.commands, &self.settings.group);
            let access = Access::of(&self.settings);
            let text = format!("committing offsets: {error}");
            // No single command is at fault, and each attempt would publish all of them again.
            let refusal = OutputRefusal::of_error(&error, || text.clone()).map(|refusal| refusal.to_string());
            match access.lacking(&error, (Operation::Read, topic), (Operation::Read, group)).or(refusal) {
                Some(reason) => PublishError::Fatal(reason),
                // Everything is published, and will be again: at least once.
                None => PublishError::Unknown(text),
            }
        })?;
        Ok(self.routes.take_counts())
    }

    fn abort(&mut self) -> Result<(), PublishError> {
        // What was sent can't be undone; a new producer forgets the rest.
        self.reset()
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Code};

    use super::*;
    use crate::{
        consumer::tests::joined,
        embedded::EmbeddedBroker,
        mark::{Mark, RulesHash},
    };

    /// Otherwise its notifications would be published again and again.
    #[test]
    fn offsets_that_the_brokers_refuse_for_good_end_it() {
        let mut settings = Settings::for_test("", &[("fetch.wait.max.ms", "10")]);
        let broker = EmbeddedBroker::start(&settings.topics).unwrap();
        settings.bootstrap_servers = broker.bootstrap_servers();
        let (member, membership) = joined(&settings);
        let mark = Mark { instance: uuid::Uuid::nil(), clock: 0, rules: RulesHash(0) };
        let mut sink = AtLeastOnce::new(&settings, member.committer(), client::BATCH_BYTES);
        sink.reset().unwrap();
        let mut commit = |code| {
            broker.cluster().request_errors(RDKafkaApiKey::OffsetCommit, &[code]);
            sink.begin().unwrap();
            let ended = sink.commit(&[NextOffset { partition: 0, offset: 1, mark }], &membership);
            broker.cluster().clear_request_errors(RDKafkaApiKey::OffsetCommit);
            ended
        };
        let refused = commit(Code::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE).unwrap_err();
        assert!(matches!(refused, PublishError::Fatal(_)), "{refused:?}");
        assert!(refused.to_string().contains("raise offset.metadata.max.bytes"), "{refused}");
        let passing = commit(Code::RD_KAFKA_RESP_ERR_UNKNOWN).unwrap_err();
        assert!(matches!(passing, PublishError::Unknown(_)), "{passing:?}");
        commit(Code::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    }
}
