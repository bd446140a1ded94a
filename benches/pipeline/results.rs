//! The figures of one run. `results.json` has those of the last full one, from which docs/performance.md is made.

use serde::{Deserialize, Serialize};

pub use super::spread::Spread;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// Machine and versions, a line each.
    pub environment: Vec<String>,
    /// Measured with fewer commands.
    pub quick: bool,
    pub throughput: Option<Throughput>,
    pub latency: Option<Latency>,
    pub memory: Option<Memory>,
    pub partitions: Option<Partitions>,
    pub stages: Option<Stages>,
    pub growth: Option<Growth>,
    pub read_model: Option<ReadModel>,
    pub keys: Option<Keys>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throughput {
    /// In the backlog.
    pub commands: u64,
    pub partitions: i32,
    pub rounds: usize,
    /// Of exactly-once with FULL, the highest of all rounds, in MB.
    pub peak_memory: f64,
    /// The copy loop first, then exactly-once with FULL.
    pub subjects: Vec<SubjectFigures>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectFigures {
    pub name: String,
    pub short_name: String,
    /// Commands a second.
    pub rate: Spread,
    /// Of the rate to the copy loop's in the same round.
    pub ratio: Spread,
    /// Microseconds of CPU per command, by stage.
    pub cpu: Vec<(String, f64)>,
    /// Microseconds of CPU per command, all threads.
    pub process: f64,
    /// Microseconds of CPU per command; unknown of a broker that was started elsewhere.
    pub broker: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    pub runs: Vec<LatencyRun>,
}

/// One subject at one rate. A percentile is missing where there are too few notifications for it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyRun {
    /// Commands a second.
    pub rate: f64,
    pub subject: String,
    pub posted: usize,
    pub timed: usize,
    /// Milliseconds.
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub highest: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    pub backlog: u64,
    pub runs: usize,
    /// MB.
    pub peak: Spread,
    /// Commands a second, the median.
    pub rate: f64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partitions {
    pub commands: u64,
    pub runs: Vec<PartitionsRun>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionsRun {
    pub partitions: i32,
    /// Commands a second.
    pub rate: f64,
    /// Microseconds of CPU per command.
    pub process: f64,
    pub broker: Option<f64>,
}

/// Microseconds of CPU per command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    pub batch: u64,
    pub rounds: usize,
    pub commands: u64,
    pub decide: f64,
    pub append: f64,
    pub notification: f64,
    pub total: f64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    pub batch: u64,
    /// Commands of each of the samples.
    pub sample: u64,
    pub sizes: Vec<GrowthSize>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrowthSize {
    pub events: u64,
    pub cost: Cost,
}

/// Of appending a command.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Microseconds.
    pub cpu: Spread,
    /// Microseconds, the median.
    pub elapsed: f64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadModel {
    pub events: u64,
    /// Microseconds of CPU per event.
    pub build: f64,
    pub queries: u64,
    /// Milliseconds.
    pub query: Spread,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    pub alive: u64,
    /// MB.
    pub memory: f64,
    pub shares: Vec<KeysShare>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysShare {
    /// How many of the new commands have a key.
    pub share: String,
    pub cost: Cost,
}
