//! The whole program against a real Kafka, under kills, freezes and failing brokers: what it promises, counted.
//!
//! Every test is ignored unless asked for, because it needs Java 17 and Maven, or a broker: the README says how to
//! run them. Each prints its seed; `KAFKA_TEST_SEED` repeats a run as far as its plan goes (the moments at which
//! processes act are theirs).
//!
//! `guard`, `distribution` and `broker` give a Kafka; `topics`, `process` and `progress` run the program beside it;
//! `load` and `content` make commands, `expected` says what must become of them, `reading`, `logs` and `check`
//! compare. None of the comparing uses the program's own code.

#![allow(dead_code, reason = "the harness offers more than each scenario uses")]
#![allow(missing_debug_implementations, reason = "clients of librdkafka have none")]

mod broker;
mod brokers;
mod check;
mod client;
mod content;
mod copies;
mod distribution;
mod examples;
mod expected;
mod fetched;
mod first;
mod full;
mod group;
mod guard;
mod heal;
mod instances;
mod kills;
mod languages;
mod largest;
mod load;
mod logs;
mod lost_commands;
mod lost_offsets;
mod members;
mod other_topic;
mod outage;
mod process;
mod progress;
mod reading;
mod refused;
mod replay;
mod replies;
mod spring;
mod topics;
mod verifying;
mod work;

use std::{
    thread,
    time::{Duration, Instant},
};

/// A line for whoever watches; the test runner does not hide it.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let line = format!($($argument)*);
        let _ = writeln!(std::io::stderr(), "{line}");
    }};
}
use say;

/// The seed of a run: that of `KAFKA_TEST_SEED`, or a new one.
fn seed(test: &str) -> u64 {
    let seed = match std::env::var("KAFKA_TEST_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("KAFKA_TEST_SEED={text} is not a number")),
        Err(_) => fastrand::u64(..1 << 32),
    };
    say!("{test}: KAFKA_TEST_SEED={seed} repeats it");
    seed
}

/// Whether it comes true in time.
fn holds_within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Waits for it to come true, and fails the test where it does not.
#[track_caller]
fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(process::PATIENCE, condition), "waited in vain for {what}");
}
