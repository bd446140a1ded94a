//! File, environment and flags become one validated [`Config`].
//!
//! A flag wins over the environment, the environment over the file, the file over the default. Each key is
//! described once, in `keys.rs`: how it is read and checked, and how it is shown. So an error can always
//! name the key, where its value came from, and what was expected there.

mod describe;
mod error;
mod keys;
pub mod properties;
mod read;
mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::telemetry::LogFormat;
use contract::{Limits, ReplyTopics};
pub use event_log::Synchronous;
pub use processor::Guarantee;

pub use describe::Setting;
pub use error::{ConfigError, Problem};
pub use keys::GUARANTEES;
pub use sources::{ENVIRONMENT_PREFIX, Origin, Origins, Override, Sources};

/// Everything that can be configured. `config/default.toml` explains each key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    pub kafka: Kafka,
    pub topics: Topics,
    pub processor: Processor,
    pub idempotency: Idempotency,
    /// The contract's limits on one command.
    pub limits: Limits,
    pub log: Log,
    pub admin: Admin,
    pub telemetry: Telemetry,
    /// Where each value that is not a default came from.
    pub origins: Origins,
}

/// The brokers, and how to talk to them.
#[derive(Clone, PartialEq)]
pub struct Kafka {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// The consumer group, which shares the partitions among its members.
    pub group: String,
    /// librdkafka properties, passed on as they are. Aliases are resolved to one name each (`linger.ms`, never
    /// `queue.buffering.max.ms`), and none is a property that keeps the program's promises.
    pub properties: BTreeMap<String, String>,
}

/// The three topics, and those of others.
#[derive(Debug, Clone, PartialEq)]
pub struct Topics {
    /// Commands are read from here. Its name is part of every activity id.
    pub commands: String,
    pub notifications: String,
    pub rejections: String,
    /// Where commands may ask for a reply; nowhere by default.
    pub replies: ReplyTopics,
    /// Whether topics that are missing are created.
    pub create: bool,
    /// Partitions of a topic that is created.
    pub partitions: i32,
    /// Copies of a topic that is created; -1 is the broker's default.
    pub replication_factor: i32,
}

/// The stages between the topics and the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Processor {
    pub guarantee: Guarantee,
    /// First part of the transactional id; group and the log's instance id follow it.
    pub transactional_id_prefix: String,
    /// The `ce_source` of every notification; the same for all instances.
    pub source: String,
    /// Commands in a batch, at most.
    pub batch_records: usize,
    /// Bytes of commands in a batch, at most.
    pub batch_bytes: usize,
    /// Bytes of output at which a publish transaction closes.
    pub batch_output_bytes: usize,
    /// How long a partition that has records may not move before the processor is not ready any more.
    pub stall_timeout: Duration,
}

/// How repeated commands are told from new ones.
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

impl Config {
    /// Reads, merges and checks what the sources say.
    ///
    /// # Errors
    ///
    /// Every problem of every source at once: unknown keys, bad values, protected librdkafka properties, topics
    /// that are not distinct, a file that cannot be read.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        let mut merging = sources::Merging::default();
        sources.read_into(&mut merging);
        keys::check_together(&mut merging);
        merging.finish()
    }
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

/// Written by hand because a debug line is no place for a password.
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
            batch_records: 4_000,
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
            cache: 16 * 1024 * 1024,
            read_model: true,
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// A length of time, as the keys of the configuration have it.
///
/// # Errors
///
/// What was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    read::duration(&read::Raw::Text(text))
}

#[cfg(test)]
mod tests;
