//! File, environment and flags become one validated [`Config`].
//!
//! A flag wins over the environment, the environment over the file, the file over the default. `keys` describes each key
//! once: how it is read, checked and shown. So every error names the key, where its value came from, and what was expected.
//!
//! figment 0.10, tried for this, reports only the first problem, without line and suggestion, and adds 14 packages.
//!
//! Each module uses only those below it:
//!
//! - `sources`: file, environment, flags. `describe`: the effective configuration as text.
//! - `merging`: adds one value after another, and collects problems.
//! - `keys`: all keys.
//! - `sections`: the configuration itself.
//! - `properties`: the properties of librdkafka.
//! - `read`: how values are read and written. `error`. `origin`.

mod describe;
mod error;
mod keys;
mod merging;
mod origin;
mod properties;
mod read;
mod sections;
mod sources;

pub use describe::Setting;
pub use error::{ConfigError, Problem};
pub use event_log::Synchronous;
pub(crate) use keys::GUARANTEES;
pub use origin::{Origin, Origins};
pub use processor::{Guarantee, LogPartitions};
pub use sections::{Admin, Config, Idempotency, Kafka, Log, Processor, Takeover, Telemetry, Topics};
pub use sources::{ENVIRONMENT_PREFIX, Override, Sources};

use std::time::Duration;

/// Reads a length of time as the keys do.
///
/// # Errors
///
/// What was expected.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    read::duration(&read::Raw::Text(text))
}

#[cfg(test)]
mod tests;
