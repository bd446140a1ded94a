//! The figures of one run. `results.json` has those of the last one that was kept, from which docs/performance.md is made.

use serde::{Deserialize, Serialize};

use super::spread::Spread;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// Machine and versions, a line each.
    pub environment: Vec<String>,
    /// Measured with fewer commands.
    pub quick: bool,
    pub measured: Measured,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// In the backlog.
    pub commands: u64,
    pub partitions: i32,
    pub rounds: usize,
    /// The processor first.
    pub subjects: Vec<SubjectFigures>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectFigures {
    pub name: String,
    pub short_name: String,
    /// Commands a second, from the first to the last committed offset.
    pub rate: Compared,
    /// The same in the second half of the backlog.
    pub steady_rate: Compared,
    /// Microseconds of CPU per command, from the start of the process.
    pub cpu: Compared,
    /// The same in the second half of the backlog.
    pub steady_cpu: Compared,
    /// Microseconds of CPU per command; unknown of a broker that was started elsewhere.
    pub broker: Option<Compared>,
    /// MB.
    pub peak_memory: Spread,
}

/// A figure, and its ratio to the processor's in the same round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    pub value: Spread,
    pub ratio: Spread,
}
