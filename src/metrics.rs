//! Metrics, in the OpenMetrics text format. Every name begins with `activity_stream_`.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Instant,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry, Unit},
};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The outcome of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Event,
    Duplicate,
    Rejection,
}

/// In lower case, as in `demo --json`; the derived encoding would keep Rust's capitals.
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
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    partition: i32,
}

/// Every metric of the program. Cheap to count with, from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    commands: Family<OutcomeLabels, Counter>,
    pub notifications_published: Counter,
    pub rejections_published: Counter,
    pub replies_published: Counter,
    replies_undeliverable: Family<ReasonLabels, Counter>,
    pub batches: Counter,
    pub command_bytes: Counter,
    pub batch_records: Histogram,
    pub append_seconds: Histogram,
    pub publish_seconds: Histogram,
    aborts: Family<ReasonLabels, Counter>,
    pub partitions_held: Gauge,
    log_lines_dropped: Counter,
    pub read_model_behind: Gauge,
    pub log_wal_bytes: Gauge,
    logged_offset: Family<PartitionLabels, Gauge>,
    published_offset: Family<PartitionLabels, Gauge>,
    lag: Family<PartitionLabels, Gauge>,
    pub followed_commands: Counter,
    followed_lag: Family<PartitionLabels, Gauge>,
    pub warming_lag: Gauge,
    end_age: Family<PartitionLabels, Gauge>,
    /// When the brokers last reported the end of a partition.
    ends: Mutex<BTreeMap<i32, Instant>>,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        const SECONDS: Option<Unit> = Some(Unit::Seconds);
        const BYTES: Option<Unit> = Some(Unit::Bytes);
        // 0.25 ms to 8 s: from a small append on a fast disk to a transaction that is about to time out.
        let times = || Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        let sizes = Histogram::new(exponential_buckets(1.0, 4.0, 9));
        let mut registry = Registry::with_prefix("activity_stream");
        let r = &mut registry;
        let metrics = Self {
            commands: add(r, "commands", None, "Commands decided, by outcome"),
            notifications_published: add(
                r,
                "notifications_published",
                None,
                "Notifications published and committed",
            ),
            rejections_published: add(r, "rejections_published", None, "Rejections published and committed"),
            replies_published: add(r, "replies_published", None, "Replies published and committed"),
            replies_undeliverable: add(
                r,
                "replies_undeliverable",
                None,
                "Replies left out because they could not be delivered, by reason",
            ),
            batches: add(r, "batches", None, "Batches appended to the event log"),
            command_bytes: add(r, "command", BYTES, "Command values decided"),
            batch_records: add_this(r, "batch_records", None, "Commands in a batch", sizes),
            append_seconds: add_this(r, "append", SECONDS, "Time of an append to the event log", times()),
            publish_seconds: add_this(r, "publish", SECONDS, "Time of a publish transaction", times()),
            aborts: add(r, "transactions_aborted", None, "Kafka transactions aborted, by reason"),
            partitions_held: add(r, "partitions_held", None, "Partitions assigned to this instance"),
            log_lines_dropped: add(
                r,
                "log_lines_dropped",
                None,
                "Log lines dropped because standard error was full or could not be written to",
            ),
            read_model_behind: add(
                r,
                "read_model_behind_events",
                None,
                "Events of the log that its read model does not cover yet",
            ),
            log_wal_bytes: add(r, "log_wal", BYTES, "Size of the event log's -wal file"),
            logged_offset: add(
                r,
                "logged_offset",
                None,
                "Next offset that the event log lacks, by partition",
            ),
            published_offset: add(
                r,
                "published_offset",
                None,
                "Next offset whose output is not published, by partition",
            ),
            lag: add(
                r,
                "lag_records",
                None,
                "Records in the topic whose output is not published, by partition",
            ),
            followed_commands: add(
                r,
                "followed_commands",
                None,
                "Commands appended to the event log that another instance publishes",
            ),
            followed_lag: add(
                r,
                "followed_lag_records",
                None,
                "Records in the topic that the event log lacks, by partition that another instance publishes",
            ),
            warming_lag: add(
                r,
                "warming_lag_records",
                None,
                "Records that the event log lacks of what the group has committed, until this instance joins it",
            ),
            end_age: add(
                r,
                "end_offset_age",
                SECONDS,
                "Time since the brokers reported the topic's end, from which the lag is computed, by partition",
            ),
            ends: Mutex::default(),
            registry,
        };
        // So that a rate starts from zero, before the first of its kind.
        for outcome in [Outcome::Event, Outcome::Duplicate, Outcome::Rejection] {
            metrics.decided(outcome, 0);
        }
        metrics
    }

    /// Counts decided commands.
    pub fn decided(&self, outcome: Outcome, commands: u64) {
        self.commands.get_or_create(&OutcomeLabels { outcome }).inc_by(commands);
    }

    /// Counts aborted transactions. With 0, a rate starts from zero before the first.
    pub fn aborted(&self, reason: &'static str, transactions: u64) {
        self.aborts.get_or_create(&ReasonLabels { reason }).inc_by(transactions);
    }

    /// Counts replies that were left out. With 0, a rate starts from zero before the first.
    pub fn undeliverable(&self, reason: &'static str, replies: u64) {
        self.replies_undeliverable.get_or_create(&ReasonLabels { reason }).inc_by(replies);
    }

    /// Sets the number of log lines dropped since the start.
    pub fn log_lines_dropped(&self, lines: u64) {
        self.log_lines_dropped.inner().store(lines, Ordering::Relaxed);
    }

    /// Sets a partition's `logged` cursor.
    pub fn logged(&self, partition: i32, next_offset: i64) {
        self.logged_offset.get_or_create(&PartitionLabels { partition }).set(next_offset);
    }

    /// Sets a partition's `published` cursor, and its end with the time at which the brokers reported it.
    pub fn position(&self, partition: i32, published: i64, end: Option<(i64, Instant)>) {
        let labels = PartitionLabels { partition };
        self.published_offset.get_or_create(&labels).set(published);
        self.followed_lag.remove(&labels);
        if let Some((end, at)) = end {
            self.lag.get_or_create(&labels).set((end - published).max(0));
            self.ends().insert(partition, at);
        }
    }

    /// The log's end of a partition that another instance publishes, and the partition's end.
    pub fn followed(&self, partition: i32, logged: i64, end: Option<(i64, Instant)>) {
        self.logged(partition, logged);
        if let Some((end, at)) = end {
            let labels = PartitionLabels { partition };
            self.followed_lag.get_or_create(&labels).set((end - logged).max(0));
            self.ends().insert(partition, at);
        }
    }

    /// Drops the gauges of what this instance publishes: it holds no partition, and others may report them.
    pub fn hold_nothing(&self) {
        self.partitions_held.set(0);
        for family in [&self.published_offset, &self.lag] {
            family.clear();
        }
    }

    fn ends(&self) -> MutexGuard<'_, BTreeMap<i32, Instant>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the gauges of a partition, which another instance may now report.
    pub fn forget(&self, partition: i32) {
        let labels = PartitionLabels { partition };
        self.ends().remove(&partition);
        for family in
            [&self.logged_offset, &self.published_offset, &self.lag, &self.followed_lag, &self.end_age]
        {
            family.remove(&labels);
        }
    }

    /// All metrics in the OpenMetrics text format, see [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        // The age grows by itself.
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

/// Adds a metric that starts at zero.
fn add<M: Metric + Clone + Default>(
    registry: &mut Registry,
    name: &str,
    unit: Option<Unit>,
    help: &str,
) -> M {
    add_this(registry, name, unit, help, M::default())
}

/// Adds a metric, and returns a clone of it, which counts into the same place.
fn add_this<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    unit: Option<Unit>,
    help: &str,
    metric: M,
) -> M {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
    metric
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
        metrics.followed_commands.inc_by(4);
        metrics.followed(6, 70, Some((72, Instant::now())));
        metrics.warming_lag.set(30);
        let page: Vec<String> =
            metrics.render().lines().filter(|line| !line.contains("_bucket{")).map(str::to_owned).collect();
        // The order within a family is not stable.
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
        // Its end was queried, but no broker answered.
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
