//! Every key: its name, how it is read and checked, and how it is shown.

use std::ops::RangeInclusive;

use event_log::Synchronous;
use processor::{Guarantee, LogPartitions};

use super::{
    read::{self, Raw},
    sections::Config,
};
use crate::telemetry::LogFormat;

/// One key of the configuration.
#[derive(Debug)]
pub(super) struct Key {
    /// `section.key`, as in the file and in `--set`.
    pub(super) name: &'static str,
    /// Sets the value, or returns what was expected.
    pub(super) read: fn(&mut Config, &Raw<'_>) -> Result<(), String>,
    /// The value as TOML.
    pub(super) show: fn(&Config) -> String,
}

impl Key {
    pub(super) fn section(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(section, _)| section)
    }

    /// The name within its section.
    pub(super) fn field(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, field)| field)
    }
}

/// `key!(section.field, reader, writer)`.
macro_rules! key {
    ($section:ident.$field:ident, $read:expr, $show:expr) => {
        Key {
            name: concat!(stringify!($section), ".", stringify!($field)),
            read: |config, raw| {
                config.$section.$field = ($read)(raw)?;
                Ok(())
            },
            show: |config| ($show)(&config.$section.$field),
        }
    };
}

pub(crate) const GUARANTEES: &[(&str, Guarantee)] =
    &[("exactly-once", Guarantee::ExactlyOnce), ("at-least-once", Guarantee::AtLeastOnce)];
const SYNCHRONOUS: &[(&str, Synchronous)] = &[("full", Synchronous::Full), ("normal", Synchronous::Normal)];
const PARTITIONS_IN_LOG: &[(&str, LogPartitions)] =
    &[("all", LogPartitions::All), ("owned", LogPartitions::Owned)];
const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

/// An activity id has 14 bits for the partition.
const PARTITIONS: RangeInclusive<i64> = 1..=1 << 14;
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
/// Of what one command or one batch can have several of.
const COUNT: RangeInclusive<i64> = 1..=1_000_000;
/// The problems must fit in a rejection's headers: the rejections topic accepts 128 KiB more than the commands topic, and the
/// other headers need some of that.
const PROBLEM_BYTES: RangeInclusive<u64> = KIB..=120 * KIB;
/// Records of all partitions together.
const LAG: RangeInclusive<i64> = 0..=1_000_000_000_000;
/// serde_json's own limit is 128 levels.
const NESTING: RangeInclusive<i64> = 1..=127;

/// In the order of `config/default.toml`, without `kafka.properties`, whose keys are librdkafka's.
pub(super) const KEYS: &[Key] = &[
    key!(kafka.bootstrap_servers, read::servers, read::quoted),
    key!(kafka.group, read::text, read::quoted),
    key!(topics.commands, read::topic, read::quoted),
    key!(topics.notifications, read::topic, read::quoted),
    key!(topics.rejections, read::topic, read::quoted),
    key!(topics.replies, read::topics, read::quoted_topics),
    key!(topics.create, read::boolean, bool::to_string),
    key!(topics.partitions, read::integer(PARTITIONS), i32::to_string),
    key!(topics.replication_factor, replication_factor, i32::to_string),
    key!(processor.guarantee, read::word(GUARANTEES), read::of_words(GUARANTEES)),
    key!(processor.transactional_id_prefix, read::text, read::quoted),
    key!(processor.source, read::source, read::quoted),
    key!(processor.batch_records, read::integer(COUNT), usize::to_string),
    key!(processor.batch_bytes, read::size(KIB..=GIB), read::quoted_size),
    key!(processor.batch_output_bytes, read::size(KIB..=GIB), read::quoted_size),
    key!(processor.stall_timeout, read::duration, read::quoted_duration),
    key!(idempotency.window, read::duration, read::quoted_duration),
    key!(limits.value_bytes, read::size(1..=GIB), read::quoted_size),
    key!(limits.output_bytes, read::size(1..=GIB), read::quoted_size),
    key!(limits.text_characters, read::integer(COUNT), usize::to_string),
    key!(limits.targets, read::integer(COUNT), usize::to_string),
    key!(limits.attachments, read::integer(COUNT), usize::to_string),
    key!(limits.nesting, read::integer(NESTING), usize::to_string),
    key!(limits.problems, read::integer(1..=10_000), usize::to_string),
    key!(limits.problem_bytes, read::size(PROBLEM_BYTES), read::quoted_size),
    key!(log.path, read::path, read::quoted_path),
    key!(log.synchronous, read::word(SYNCHRONOUS), read::of_words(SYNCHRONOUS)),
    key!(log.cache, read::size(MIB..=1024 * GIB), read::quoted_size),
    key!(log.read_model, read::boolean, bool::to_string),
    key!(log.partitions, read::word(PARTITIONS_IN_LOG), read::of_words(PARTITIONS_IN_LOG)),
    key!(takeover.max_lag_records, read::integer(LAG), i64::to_string),
    key!(admin.listen, read::address, read::quoted_address),
    key!(telemetry.format, read::word(FORMATS), read::of_words(FORMATS)),
    key!(telemetry.filter, read::filter, read::quoted),
];

/// Kafka's protocol has 16 bits for it, and -1 means the broker's default.
fn replication_factor(raw: &Raw<'_>) -> Result<i32, String> {
    read::integer(-1..=i64::from(i16::MAX))(raw)
        .ok()
        .filter(|factor| *factor != 0)
        .ok_or_else(|| raw.expected("a number of copies, or -1 for the broker's default"))
}

pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}
