//! The configuration: one struct per section of the file, and the defaults.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use contract::{Limits, ReplyTopics};
use event_log::Synchronous;
use processor::{Guarantee, LogPartitions};

use super::{origin::Origins, properties};
use crate::telemetry::LogFormat;

/// Everything that can be configured. `config/default.toml` explains each key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    pub kafka: Kafka,
    pub topics: Topics,
    pub processor: Processor,
    pub idempotency: Idempotency,
    /// Limits on one command.
    pub limits: Limits,
    pub log: Log,
    pub takeover: Takeover,
    pub admin: Admin,
    pub telemetry: Telemetry,
    /// Where each value that is not a default came from, by key.
    pub origins: Origins,
}

/// The brokers, and how to connect to them.
#[derive(Clone, PartialEq)]
pub struct Kafka {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// The consumer group, which shares the partitions among its members.
    pub group: String,
    /// librdkafka properties by their canonical names (`linger.ms`, never `queue.buffering.max.ms`). None is among those that
    /// the guarantees depend on.
    pub properties: BTreeMap<String, String>,
}

/// The three topics, and the topics for replies, which others own.
#[derive(Debug, Clone, PartialEq)]
pub struct Topics {
    /// Its name is part of every activity id.
    pub commands: String,
    pub notifications: String,
    pub rejections: String,
    /// Topics on which commands may ask for a reply; none by default.
    pub replies: ReplyTopics,
    /// Whether `run` creates missing topics.
    pub create: bool,
    /// Partitions of a created topic.
    pub partitions: i32,
    /// Replicas of a created topic; -1 is the broker's default.
    pub replication_factor: i32,
}

/// The stages between the topics and the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Processor {
    pub guarantee: Guarantee,
    /// First part of the transactional id; the group and the log's instance id follow.
    pub transactional_id_prefix: String,
    /// `ce_source` of every notification; the same for all instances.
    pub source: String,
    /// Up to this many commands are in a batch.
    pub batch_records: usize,
    /// Up to this many bytes of commands are in a batch.
    pub batch_bytes: usize,
    /// Bytes of output at which a publish transaction commits.
    pub batch_output_bytes: usize,
    /// A partition that lags and makes no progress for this long makes the processor unready.
    pub stall_timeout: Duration,
}

/// How repeated commands are recognized.
#[derive(Debug, Clone, PartialEq)]
pub struct Idempotency {
    /// How long a key is remembered, on the record timestamps of its partition.
    pub window: Duration,
}

/// The event log's file.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub path: PathBuf,
    pub synchronous: Synchronous,
    /// SQLite's page cache, in bytes.
    pub cache: u64,
    /// Whether `run` keeps the read model up to date.
    pub read_model: bool,
    /// Which partitions it has.
    pub partitions: LogPartitions,
}

/// When an instance is fit to take partitions over.
#[derive(Debug, Clone, PartialEq)]
pub struct Takeover {
    /// The most records that its log may lack of what the group has committed when it joins.
    pub max_lag_records: i64,
}

/// The HTTP server for health and metrics.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Admin {
    /// Where it listens; nowhere by default.
    pub listen: Option<SocketAddr>,
}

/// The program's own log lines, on standard error.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    pub format: LogFormat,
    /// `tracing-subscriber`'s filter directives.
    pub filter: String,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            bootstrap_servers: "localhost:9092".to_owned(),
            group: "activity-stream".to_owned(),
            properties: BTreeMap::new(),
        }
    }
}

/// By hand, because the properties contain passwords.
impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: BTreeMap<_, _> =
            self.properties.iter().map(|(name, value)| (name, properties::shown(name, value))).collect();
        f.debug_struct("Kafka")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("group", &self.group)
            .field("properties", &shown)
            .finish()
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            commands: "activity.commands".to_owned(),
            notifications: "activity.notifications".to_owned(),
            rejections: "activity.rejections".to_owned(),
            replies: ReplyTopics::default(),
            create: false,
            partitions: 6,
            replication_factor: -1,
        }
    }
}

impl Default for Processor {
    fn default() -> Self {
        Self {
            guarantee: Guarantee::ExactlyOnce,
            transactional_id_prefix: "activity-stream".to_owned(),
            source: "activity-stream".to_owned(),
            batch_records: 6_000,
            batch_bytes: 8 * 1024 * 1024,
            batch_output_bytes: 32 * 1024 * 1024,
            stall_timeout: Duration::from_secs(60),
        }
    }
}

impl Default for Idempotency {
    fn default() -> Self {
        Self { window: Duration::from_secs(7 * 24 * 60 * 60) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            path: PathBuf::from("activity.db"),
            synchronous: Synchronous::Full,
            cache: 8 * 1024 * 1024,
            read_model: true,
            partitions: LogPartitions::All,
        }
    }
}

impl Default for Takeover {
    fn default() -> Self {
        Self { max_lag_records: 10_000 }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}
