//! The whole program against a real Kafka, under kills, freezes and failing brokers: counts deviations from its guarantees.
//!
//! Every test is ignored by default, because it needs Java 17 and Maven, or a broker: docs/testing.md says how to run them.
//! Each prints its seed. `KAFKA_TEST_SEED` repeats the plan of a run, but not the exact timing of its processes.
//!
//! Tests start in the order of their names, so that the longest, `away`, starts first and does not run on alone at the end.
//!
//! `guard`, `distribution` and `broker` give a Kafka, to `benches/pipeline` too; `topics`, `process` and `progress` run the
//! program beside it; `load` and `content` make commands, `expected` says what must become of them, `reading`, `logs` and
//! `check` compare. None of the comparing uses the program's own code.

#![allow(dead_code, reason = "the harness offers more than each scenario uses")]
#![allow(missing_debug_implementations, reason = "clients of librdkafka have none")]

mod access;
mod added;
mod admin;
mod away;
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
mod files;
mod first;
mod foreign_offsets;
mod full;
mod group;
mod guard;
mod heal;
mod held_back;
mod instances;
mod kills;
mod languages;
mod largest;
mod left_open;
mod load;
mod logs;
mod lost_commands;
mod lost_offsets;
mod members;
mod narrow;
mod other_topic;
mod poison;
mod preflight;
mod process;
mod progress;
mod protocols;
mod reading;
mod refused;
mod replay;
mod replicas;
mod replies;
mod rot;
mod said;
mod spring;
#[cfg(feature = "ssl")]
mod tls;
mod topics;
mod until_end;
mod verifying;
mod waiting;
mod work;

use waiting::{holds_within, say, wait_for, wait_until, wait_within};

/// The seed of a run: that of `KAFKA_TEST_SEED`, or a new one.
fn seed(test: &str) -> u64 {
    let seed = match std::env::var("KAFKA_TEST_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("KAFKA_TEST_SEED={text} is not a number")),
        Err(_) => fastrand::u64(..1 << 32),
    };
    say!("{test}: KAFKA_TEST_SEED={seed} repeats it");
    seed
}
