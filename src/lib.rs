//! Decides "post an activity" commands from Kafka, appends the accepted ones to an event log in SQLite, and publishes the
//! notifications exactly once.
//!
//! This is the program around the crates of the workspace; each imports only from those below it:
//!
//! - `client`: for other programs, which post activities and follow notifications.
//! - this crate: [`cli`], one file per subcommand; [`config`], which merges file, environment and flags into one validated
//!   configuration; `telemetry`, `metrics`, `admin`: logs, metrics, health.
//! - `processor`: the stages and the two cursors. `verify`: decides every command again, and compares the result with topics
//!   and logs; independent of the processor.
//! - `kafka`, `event_log`: the two sides that the processor joins; independent of each other.
//! - `contract`: commands, decisions and outputs, without clock, random numbers or I/O.

pub mod admin;
pub mod cli;
pub mod config;
mod metrics;
mod telemetry;
