//! What is counted, in the Prometheus text format.
//!
//! Every name begins with `activity_stream_`. Times are in seconds, sizes in bytes, offsets and records in themselves.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Instant,
};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Event,
    Duplicate,
    Rejection,
}

/// Labels are in lower case, as the outcomes of `demo --json` are; the derived encoding would keep Rust's capitals.
impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Outcome::Event => "event",
            Outcome::Duplicate => "duplicate",
            Outcome::Rejection => "rejection",
        };
        name.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AbortLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    partition: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UndeliverableLabels {
    reason: &'static str,
}

/// Every metric of the program. Cheap to count with, from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    commands: Family<OutcomeLabels, Counter>,
    aborts: Family<AbortLabels, Counter>,
    replies_undeliverable: Family<UndeliverableLabels, Counter>,
    logged_offset: Family<PartitionLabels, Gauge>,
    published_offset: Family<PartitionLabels, Gauge>,
    lag: Family<PartitionLabels, Gauge>,
    end_age: Family<PartitionLabels, Gauge>,
    /// When the brokers last said where a partition ends.
    ends: Mutex<BTreeMap<i32, Instant>>,
    /// Notifications whose transaction is committed.
    pub notifications_published: Counter,
    /// Rejections whose transaction is committed.
    pub rejections_published: Counter,
    /// Replies whose transaction is committed.
    pub replies_published: Counter,
    /// Batches appended to the log.
    pub batches: Counter,
    /// Bytes of command values that were decided.
    pub command_bytes: Counter,
    /// Commands in a batch.
    pub batch_records: Histogram,
    /// Time of one append to the log.
    pub append_seconds: Histogram,
    /// Time of one publish transaction, from its beginning to its commit.
    pub publish_seconds: Histogram,
    /// Partitions that are assigned to this instance.
    pub partitions_held: Gauge,
    log_lines_dropped: Counter,
    /// Events that only the log has, and not its read model.
    pub read_model_behind: Gauge,
    /// Bytes of the log's -wal file.
    pub log_wal_bytes: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        // 0.25 ms to 8 s: from a small append on a fast disk to a transaction that is about to time out.
        let seconds = || Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        let metrics = Self {
            registry: Registry::default(),
            commands: Family::default(),
            aborts: Family::default(),
            replies_undeliverable: Family::default(),
            logged_offset: Family::default(),
            published_offset: Family::default(),
            lag: Family::default(),
            end_age: Family::default(),
            ends: Mutex::default(),
            notifications_published: Counter::default(),
            rejections_published: Counter::default(),
            replies_published: Counter::default(),
            batches: Counter::default(),
            command_bytes: Counter::default(),
            batch_records: Histogram::new(exponential_buckets(1.0, 4.0, 9)),
            append_seconds: seconds(),
            publish_seconds: seconds(),
            partitions_held: Gauge::default(),
            log_lines_dropped: Counter::default(),
            read_model_behind: Gauge::default(),
            log_wal_bytes: Gauge::default(),
        };
        // So that a rate has a zero to start from, before the first of its kind.
        for outcome in [Outcome::Event, Outcome::Duplicate, Outcome::Rejection] {
            drop(metrics.commands.get_or_create(&OutcomeLabels { outcome }));
        }
        let registry = metrics.registered();
        Self { registry, ..metrics }
    }

    /// A metric's clone counts into the same place.
    fn registered(&self) -> Registry {
        let mut registry = Registry::with_prefix("activity_stream");
        let r = &mut registry;
        r.register("commands", "Commands decided, by outcome", self.commands.clone());
        r.register(
            "notifications_published",
            "Notifications published and committed",
            self.notifications_published.clone(),
        );
        r.register(
            "rejections_published",
            "Rejections published and committed",
            self.rejections_published.clone(),
        );
        r.register("replies_published", "Replies published and committed", self.replies_published.clone());
        r.register(
            "replies_undeliverable",
            "Replies left out because they could not be delivered, by reason",
            self.replies_undeliverable.clone(),
        );
        r.register("batches", "Batches appended to the event log", self.batches.clone());
        r.register_with_unit("command", "Command values decided", Unit::Bytes, self.command_bytes.clone());
        r.register("batch_records", "Commands in a batch", self.batch_records.clone());
        r.register_with_unit(
            "append",
            "Time of an append to the event log",
            Unit::Seconds,
            self.append_seconds.clone(),
        );
        r.register_with_unit(
            "publish",
            "Time of a publish transaction",
            Unit::Seconds,
            self.publish_seconds.clone(),
        );
        r.register("transactions_aborted", "Kafka transactions aborted, by reason", self.aborts.clone());
        r.register("partitions_held", "Partitions assigned to this instance", self.partitions_held.clone());
        r.register(
            "log_lines_dropped",
            "Log lines dropped because standard error was full or could not be written to",
            self.log_lines_dropped.clone(),
        );
        r.register(
            "read_model_behind_events",
            "Events of the log that its read model does not cover yet",
            self.read_model_behind.clone(),
        );
        r.register_with_unit(
            "log_wal",
            "Size of the event log's -wal file",
            Unit::Bytes,
            self.log_wal_bytes.clone(),
        );
        r.register(
            "logged_offset",
            "Next offset that the event log lacks, by partition",
            self.logged_offset.clone(),
        );
        r.register(
            "published_offset",
            "Next offset whose output is not out, by partition",
            self.published_offset.clone(),
        );
        r.register(
            "lag_records",
            "Records in the topic whose output is not out, by partition",
            self.lag.clone(),
        );
        r.register_with_unit(
            "end_offset_age",
            "Time since the brokers said where the topic ends, which the lag is made from, by partition",
            Unit::Seconds,
            self.end_age.clone(),
        );
        registry
    }

    /// Counts decided commands.
    pub fn decided(&self, outcome: Outcome, commands: u64) {
        self.commands.get_or_create(&OutcomeLabels { outcome }).inc_by(commands);
    }

    /// Counts aborted transactions. Of none, it gives a rate its zero to start from.
    pub fn aborted(&self, reason: &'static str, transactions: u64) {
        self.aborts.get_or_create(&AbortLabels { reason }).inc_by(transactions);
    }

    /// Counts replies that were left out. Of none, it gives a rate its zero to start from.
    pub fn undeliverable(&self, reason: &'static str, replies: u64) {
        let labels = UndeliverableLabels { reason };
        self.replies_undeliverable.get_or_create(&labels).inc_by(replies);
    }

    /// How many log lines were dropped since the start.
    pub fn log_lines_dropped(&self, lines: u64) {
        self.log_lines_dropped.inner().store(lines, Ordering::Relaxed);
    }

    /// Where a partition's `logged` cursor is.
    pub fn logged(&self, partition: i32, next_offset: i64) {
        self.logged_offset.get_or_create(&PartitionLabels { partition }).set(next_offset);
    }

    /// Where a partition's `published` cursor is, and where the topic ended when the brokers were last asked.
    pub fn position(&self, partition: i32, published: i64, end: Option<(i64, Instant)>) {
        let labels = PartitionLabels { partition };
        self.published_offset.get_or_create(&labels).set(published);
        if let Some((end, at)) = end {
            self.lag.get_or_create(&labels).set((end - published).max(0));
            self.ends().insert(partition, at);
        }
    }

    fn ends(&self) -> MutexGuard<'_, BTreeMap<i32, Instant>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what was said of a partition; another instance says it now.
    pub fn forget(&self, partition: i32) {
        let labels = PartitionLabels { partition };
        self.ends().remove(&partition);
        for family in [&self.logged_offset, &self.published_offset, &self.lag, &self.end_age] {
            family.remove(&labels);
        }
    }

    /// All metrics in the OpenMetrics text format, see [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        // It grows while nobody counts anything.
        for (&partition, at) in self.ends().iter() {
            let seconds = i64::try_from(at.elapsed().as_secs()).unwrap_or(i64::MAX);
            self.end_age.get_or_create(&PartitionLabels { partition }).set(seconds);
        }
        let mut page = String::new();
        // Writing into a string cannot fail, and a metric that could not be written is no reason to stop.
        if text::encode(&mut page, &self.registry).is_err() {
            page.push_str("# EOF\n");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(metrics: &Metrics, name: &str) -> Vec<String> {
        metrics.render().lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
    }

    #[test]
    fn renders_every_metric() {
        let metrics = Metrics::new();
        metrics.decided(Outcome::Event, 3);
        metrics.aborted("timed_out", 1);
        metrics.notifications_published.inc_by(2);
        metrics.replies_published.inc_by(5);
        metrics.undeliverable("too_large", 1);
        metrics.append_seconds.observe(0.004);
        metrics.batch_records.observe(10_000.0);
        metrics.command_bytes.inc_by(328);
        metrics.partitions_held.set(1);
        metrics.log_lines_dropped(9);
        metrics.read_model_behind.set(7);
        metrics.log_wal_bytes.set(4_152);
        metrics.logged(5, 101);
        metrics.position(5, 100, Some((160, Instant::now())));
        let page: Vec<String> =
            metrics.render().lines().filter(|line| !line.contains("_bucket{")).map(str::to_owned).collect();
        // Families keep no order of their own.
        let mut page = page;
        page.sort();
        insta::with_settings!({ prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!("metrics", page.join("\n"));
        });
        assert!(metrics.render().ends_with("# EOF\n"));
    }

    #[test]
    fn lag_is_never_below_zero_and_a_lost_partition_is_forgotten() {
        let metrics = Metrics::new();
        metrics.position(5, 100, Some((99, Instant::now())));
        assert_eq!(
            samples(&metrics, "activity_stream_lag_records{"),
            ["activity_stream_lag_records{partition=\"5\"} 0"]
        );
        // Its end is asked for and not answered.
        metrics.position(5, 99, None);
        for name in ["published_offset", "lag_records", "end_offset_age_seconds"] {
            assert_eq!(samples(&metrics, &format!("activity_stream_{name}{{")).len(), 1, "{name}");
        }
        metrics.forget(5);
        assert!(samples(&metrics, "activity_stream_end_offset_age_seconds{").is_empty());
        assert!(samples(&metrics, "activity_stream_lag_records{").is_empty());
        assert!(samples(&metrics, "activity_stream_published_offset{").is_empty());
    }
}
