//! Derives each part's options from the configuration.

use anyhow::Context;
use contract::Decider;
use event_log::{EventLog, LogOptions};
use kafka::{
    Settings, Topics,
    client::{BATCH_BYTES, MESSAGE_MAX_BYTES},
    topics::{DEFAULT_RECORD_BYTES, Report},
};
use processor::{Accept, Caps, ProcessorOptions};

use crate::config::Config;

/// Brokers and topics.
#[must_use]
pub fn kafka(config: &Config) -> Settings {
    let topics = &config.topics;
    Settings {
        bootstrap_servers: config.kafka.bootstrap_servers.clone(),
        group: config.kafka.group.clone(),
        properties: config.kafka.properties.clone(),
        topics: Topics {
            commands: topics.commands.clone(),
            notifications: topics.notifications.clone(),
            rejections: topics.rejections.clone(),
            replies: topics.replies.clone(),
            partitions: topics.partitions,
            replication_factor: topics.replication_factor,
            largest_command: config.limits.value_bytes,
        },
    }
}

/// The stages. `report` has the limits of the topics; none for the embedded broker, which accepts everything.
#[must_use]
pub fn processor(config: &Config, accept: Accept, report: Option<&Report>) -> ProcessorOptions {
    let processor = &config.processor;
    ProcessorOptions {
        kafka: kafka(config),
        guarantee: processor.guarantee,
        transactional_id_prefix: processor.transactional_id_prefix.clone(),
        source: processor.source.clone(),
        caps: Caps { records: processor.batch_records, bytes: processor.batch_bytes },
        rejection_bytes: report
            .map_or(MESSAGE_MAX_BYTES, |report| report.rejection_bytes.unwrap_or(DEFAULT_RECORD_BYTES)),
        batch_bytes: report.and_then(|report| report.batch_bytes).unwrap_or(BATCH_BYTES),
        output_bytes: processor.batch_output_bytes,
        stall_timeout: processor.stall_timeout,
        partitions: config.log.partitions,
        max_lag_records: config.takeover.max_lag_records,
        accept,
    }
}

/// The rules for commands.
#[must_use]
pub fn decider(config: &Config) -> Decider {
    Decider::new(config.topics.commands.clone(), config.limits.clone())
        .with_reply_topics(config.topics.replies.clone())
}

/// The idempotency window, in milliseconds.
#[must_use]
pub fn window_ms(config: &Config) -> i64 {
    i64::try_from(config.idempotency.window.as_millis()).unwrap_or(i64::MAX)
}

/// Opens the event log as its one writer.
pub fn open_log(config: &Config) -> anyhow::Result<EventLog> {
    let options = LogOptions {
        path: config.log.path.clone(),
        topic: config.topics.commands.clone(),
        synchronous: config.log.synchronous,
        cache_bytes: config.log.cache,
        window_ms: window_ms(config),
        max_pages: None,
    };
    EventLog::open(&options).with_context(|| format!("the event log '{}'", options.path.display()))
}
