//! Decides "post an activity" commands from Kafka, keeps the accepted ones in an SQLite event log,
//! and notifies the audiences that asked to be notified, exactly once.
//!
//! A map of the code, from the outside in; a module imports only from those below it:
//!
//! - [`client`]: for other programs, which post activities and are told of them.
//! - `cli`: one file a subcommand.
//! - [`config`]: file, environment and flags become one validated configuration.
//! - `telemetry`, `admin`: logs, metrics, health.
//! - `processor`: the stages and the two cursors.
//! - `read_model`: an index beside the event log, which it follows.
//! - [`verify`]: whether topics and logs are what deciding every command again says.
//! - `kafka`, `event_log`: the two sides that the processor joins; they do not know each other.
//! - [`activity`]: the pure core of the contract: no clock, no random number, no I/O.

pub mod activity;
pub mod admin;
pub mod cli;
pub mod client;
pub mod config;
pub mod event_log;
pub mod kafka;
pub mod metrics;
pub mod processor;
pub mod read_model;
pub mod telemetry;
pub mod verify;
