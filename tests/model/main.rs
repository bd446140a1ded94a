//! A model of two instances, their logs and Kafka, of which every state is explored.
//!
//! It has one partition, a few commands, and two processes that may do their steps in any order, with faults in between. The
//! production code decides: [`processor::plan`] and [`processor::plan_following`] where a partition starts,
//! [`processor::is_published`] what is still to be published, [`processor::Warmth`] who may join the group,
//! [`contract::settle`] what a command becomes, and the contract's reader what a command is. The steps around it are the
//! model's own. They follow `processor::intake`, `append`, `publish` and `follow`, and the fences of Kafka: the group's
//! generation, the epoch of a producer, and offsets that are not returned while a transaction may move them.
//!
//! Instances whose logs have what they own, and instances that follow, are explored apart: following multiplies the states,
//! so there are fewer faults with it.
//!
//! Each test of `breaks` breaks one of these on purpose, and expects the shortest counterexample.
//!
//! The first exploration of each kind can be larger: `MODEL_FAULTS=n` allows that number of faults, and `MODEL_COMMANDS=n`
//! has that number of commands.

mod breaks;
mod broker;
mod checker;
mod commands;
mod faults;
mod following;
mod log;
mod process;
mod properties;
mod rules;
mod starting;
mod state;
mod steps;
mod world;

use processor::LogPartitions::{self, All, Owned};

use checker::{Explored, explore};
use commands::{Commands, Outcome, Script};
use rules::Rules;
use state::Limit;
use steps::Fault;
use world::{AHEAD, BEHIND, GAP, REFUSED, UNSYNCED, WARMING, World};

/// A command without a key, which may be deleted; one with a key, and its repetition; the key after the window.
const SCRIPT: [Script; commands::MOST] = [
    Script { key: None, content: "plain", timestamp: 10, becomes: Outcome::Event },
    Script { key: Some("a"), content: "keyed", timestamp: 20, becomes: Outcome::Event },
    Script { key: Some("a"), content: "keyed", timestamp: 30, becomes: Outcome::Duplicate(1) },
    Script { key: Some("a"), content: "later", timestamp: 130, becomes: Outcome::Event },
];

/// One key for two commands.
const REUSED: [Script; 3] = [
    Script { key: Some("a"), content: "one", timestamp: 10, becomes: Outcome::Event },
    Script { key: Some("a"), content: "other", timestamp: 20, becomes: Outcome::Rejected },
    Script { key: Some("a"), content: "one", timestamp: 30, becomes: Outcome::Duplicate(0) },
];

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[track_caller]
fn explores(
    script: &[Script],
    partitions: LogPartitions,
    faults: u8,
    may_happen: fn(Fault) -> bool,
    kinds: &[&str],
) -> Explored {
    let rules = Rules::default();
    let world = World { commands: Commands::new(script), faults, may_happen, rules, partitions };
    let explored = explore(&world).unwrap_or_else(|found| panic!("{found}"));
    println!("{partitions:?} partitions, {} commands, {faults} faults: {explored:?}", script.len());
    for kind in kinds {
        assert!(explored.kinds.contains_key(kind), "nothing had: {kind}");
    }
    explored
}

#[test]
fn every_schedule_of_faults_keeps_the_promises() {
    let commands = number("MODEL_COMMANDS").unwrap_or(2);
    let faults = number("MODEL_FAULTS").unwrap_or(2);
    let kinds = [REFUSED, GAP, BEHIND, Limit::NewLogWithoutOffset.name(), Limit::AcceptedTooLate.name()];
    let explored = explores(&SCRIPT[..commands], Owned, faults as u8, |_| true, &kinds);
    assert!(explored.states >= 100_000, "only {}", explored.states);
}

#[test]
fn keys_are_recognized_in_every_schedule() {
    let leaves_offsets =
        |fault| !matches!(fault, Fault::CommitAsOther(_) | Fault::ForgetOffset | Fault::Delete(_));
    explores(&SCRIPT, Owned, 1, leaves_offsets, &[BEHIND]);
}

#[test]
fn a_reused_key_is_rejected_in_every_schedule() {
    explores(&REUSED, Owned, 1, |_| true, &[REFUSED, BEHIND]);
}

/// Longer schedules, which come to all limits.
#[test]
fn offsets_that_are_lost_or_moved_after_a_stop_are_known_or_refused() {
    let may_happen = |fault| matches!(fault, Fault::Stop(_) | Fault::ForgetOffset | Fault::CommitAsOther(_));
    let limits = Limit::ALL.map(Limit::name);
    explores(&SCRIPT[..2], Owned, 3, may_happen, &limits);
}

#[test]
fn followers_keep_the_promises() {
    let commands = number("MODEL_COMMANDS").unwrap_or(2);
    let faults = number("MODEL_FAULTS").unwrap_or(1);
    let limits = [Limit::NewLogWithoutOffset.name(), Limit::AcceptedTooLate.name()];
    let kinds = [&[REFUSED, GAP, BEHIND, AHEAD, UNSYNCED, WARMING], &limits[..]].concat();
    let explored = explores(&SCRIPT[..commands], All, faults as u8, |_| true, &kinds);
    assert!(explored.states >= 100_000, "only {}", explored.states);
}

/// Logs lose what they followed, with its keys, and follow it again.
#[test]
fn followers_recognize_keys() {
    let may_happen = |fault| matches!(fault, Fault::Crash(_) | Fault::PowerLoss(_) | Fault::Restore(_));
    explores(&REUSED[..2], All, 1, may_happen, &[BEHIND, AHEAD, UNSYNCED]);
}
