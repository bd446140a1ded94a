//! The program as processes, beside a broker that is embedded in the test.
//!
//! One program, so that its tests wait at the same time: most of them wait for sessions, timeouts and brokers that are
//! away. A test that measures its own process, or that of all children, is a program of its own.

mod cli_commands;
mod client;
mod client_faults;
mod demo;
mod files;
mod forgotten;
mod poison;
mod process;
mod replies;
mod run;
mod verify;

#[path = "../support/relay.rs"]
mod relay;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/world.rs"]
mod world;
