//! Decides "post an activity" commands from Kafka, keeps the accepted ones in an SQLite event log,
//! and notifies the audiences that asked to be notified, exactly once.
//!
//! This is the program around the crates of the workspace; each imports only from those below it:
//!
//! - `client`: for other programs, which post activities and follow notifications.
//! - here: [`cli`], one file a subcommand; [`config`]: file, environment and flags become one validated configuration;
//!   `telemetry`, `metrics`, `admin`: logs, metrics, health.
//! - `processor`: the stages and the two cursors. `verify`: whether topics and logs are what deciding every command again
//!   gives; it does not know the processor.
//! - `kafka`, `event_log`: the two sides that the processor joins; they do not know each other.
//! - `contract`: commands, decisions and outputs, without clock, random number or I/O.

pub mod admin;
pub mod cli;
pub mod config;
mod metrics;
mod telemetry;
