//! Detects in librdkafka's log that a topic was deleted and created again.
//!
//! librdkafka accepts the id of the new topic and continues there, at the old offset if that exists ("FIXME: an offset reset
//! must be triggered", in its `rd_kafka_topic_metadata_update`; issue 4898 of confluentinc/librdkafka). Only its log reports
//! that. Since Kafka 3.1 a fetch names the topic by its id (KIP-516, Fetch version 13), so no record of the new topic can
//! have been fetched before the line.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

/// The debug context with these lines. Some lines for each Metadata response, none for records.
const CONTEXT: &str = "metadata";
/// 16 bytes of zeros: the topic was not seen before, or by a broker that knows no ids.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Enables the log lines about ids, and the operator's own debug contexts if their lines are written.
#[must_use]
pub fn logging_ids(mut client: ClientConfig) -> ClientConfig {
    let wanted = client.get("debug").filter(|wanted| !wanted.trim().is_empty());
    let contexts = match wanted {
        Some(wanted) if tracing::enabled!(target: "librdkafka", tracing::Level::TRACE) => {
            format!("{wanted},{CONTEXT}")
        }
        _ => CONTEXT.to_owned(),
    };
    client.set("debug", contexts).set_log_level(RDKafkaLogLevel::Debug);
    client
}

/// The id of one topic, as seen in the log.
#[derive(Debug)]
pub struct TopicId {
    topic: String,
    /// The last known id.
    id: Mutex<Option<String>>,
    changed: AtomicBool,
}

impl TopicId {
    #[must_use]
    pub fn of(topic: &str) -> Self {
        Self { topic: topic.to_owned(), id: Mutex::default(), changed: AtomicBool::new(false) }
    }

    /// A line of the log.
    pub fn hear(&self, message: &str) {
        let Some((old, new)) = change(message, &self.topic) else { return };
        let mut known = self.id.lock().expect("never poisoned");
        for id in [old, new] {
            if id != NO_ID && known.as_deref() != Some(id) {
                let before = known.replace(id.to_owned());
                self.changed.fetch_or(before.is_some(), Ordering::SeqCst);
            }
        }
    }

    /// Whether the topic was created again.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.changed.load(Ordering::SeqCst)
    }
}

/// The ids before and after.
fn change<'a>(message: &'a str, topic: &str) -> Option<(&'a str, &'a str)> {
    let (_, rest) = message.split_once("Topic ")?;
    rest.strip_prefix(topic)?.strip_prefix(" changed id from ")?.split_once(" to ")
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use rdkafka::{
        Offset, TopicPartitionList,
        consumer::{BaseConsumer, Consumer as _},
    };

    use super::*;
    use crate::{
        Settings, Topics, client, consumer::tests::PATIENCE, context::Context, embedded::EmbeddedBroker,
    };

    /// In just these words, and at this level.
    #[test]
    fn librdkafka_logs_the_first_id() {
        let broker = EmbeddedBroker::start(&Topics::for_test("c")).expect("a broker");
        let settings = Settings::for_test(&broker.bootstrap_servers(), &[]);
        let topic_id = Arc::new(TopicId::of("c"));
        let hearing = Arc::clone(&topic_id);
        let context = Context::default().on_log(move |_, line| hearing.hear(line));
        let consumer: BaseConsumer<Context> =
            logging_ids(client::consumer(&settings)).create_with_context(context).expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("c", 0, Offset::Beginning).expect("an offset");
        consumer.assign(&list).expect("assigned");
        let id = || topic_id.id.lock().expect("never poisoned").clone();
        let deadline = Instant::now() + PATIENCE;
        while id().is_none() {
            assert!(Instant::now() < deadline, "no line of the log has the topic's id");
            consumer.poll(Duration::from_millis(20));
        }
        assert!(!topic_id.has_changed());
    }

    #[test]
    fn another_id_is_another_topic_and_none_is_not() {
        const OLD: &str = "MkTRWTUETmSYzlRX1WjLvg";
        const NEW: &str = "cKMSQkPBQFi1SkHIsnDXAQ";
        let hears = |changes: &[(&str, &str)]| {
            let id = TopicId::of("a.commands");
            for (old, new) in changes {
                id.hear(&format!("[thrd:main]: Topic a.commands changed id from {old} to {new}"));
            }
            id.has_changed()
        };
        assert!(!hears(&[(NO_ID, OLD)]));
        assert!(hears(&[(NO_ID, OLD), (OLD, NEW)]));
        assert!(hears(&[(OLD, NEW)]));
        // While brokers are upgraded, some know no ids.
        assert!(!hears(&[(NO_ID, OLD), (OLD, NO_ID), (NO_ID, OLD)]));
        assert!(hears(&[(NO_ID, OLD), (OLD, NO_ID), (NO_ID, NEW)]));
        let others = TopicId::of("a");
        others.hear(&format!("[thrd:main]: Topic a.commands changed id from {OLD} to {NEW}"));
        others.hear("[thrd:main]: Topic a [0] Leader 1 Epoch 0");
        assert!(!others.has_changed());
    }

    #[test]
    fn adds_debug_contexts_of_the_operator_only_if_they_are_logged() {
        let debug = |properties: &[(&str, &str)]| {
            let client = client::consumer(&Settings::for_test("nobody.invalid:9092", properties));
            logging_ids(client).get("debug").map(str::to_owned)
        };
        assert_eq!(debug(&[]).as_deref(), Some("metadata"));
        let wanted = [("debug", "cgrp,topic")];
        assert_eq!(debug(&wanted).as_deref(), Some("metadata"));
        let written = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).finish();
        tracing::subscriber::with_default(written, || {
            assert_eq!(debug(&wanted).as_deref(), Some("cgrp,topic,metadata"));
        });
    }
}
