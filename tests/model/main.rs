//! A model of instances, their logs and Kafka, of which every state is explored.
//!
//! It has one or two partitions, a few commands of each, and two or three processes that may do their steps in any order, with
//! faults in between. The production code decides: [`processor::plan`] and [`processor::plan_following`] where a partition
//! starts, [`processor::Start`] whether its first offset is committed, [`processor::HeldPartitions`] what is held in which
//! epoch and how far it is, [`processor::Shares`] what a follower may append, [`processor::Contents`] what a transaction has,
//! [`kafka::mark::Committed`] whom the next owner fences, [`processor::Warmth`] who may join the group, [`contract::settle`]
//! what a command becomes, and the contract's reader what a command is. The steps around it are the model's own. They follow
//! `processor::intake`, `append`, `publish` and `follow`, and the fences of Kafka: the group's generation, the epoch of a
//! producer, and offsets that are not returned while a transaction may move them.
//!
//! Instances whose logs have what they own, and instances that follow, are explored apart: following multiplies the states,
//! so there are fewer faults with it. So are two partitions, three instances, and brokers that never time out a transaction.
//! Two instances that each have a partition, and follow the other one, begin with that.
//!
//! Each test of `breaks` breaks one of these on purpose, and expects the shortest counterexample.
//!
//! The first exploration of each kind can be larger: `MODEL_FAULTS=n` allows that number of faults, `MODEL_COMMANDS=n` has
//! that number of commands in each partition, and `MODEL_PARTITIONS=n` and `MODEL_INSTANCES=n` have as many of these.

mod breaks;
mod broker;
mod checker;
mod commands;
mod faults;
mod fingerprint;
mod following;
mod kinds;
mod limits;
mod log;
mod process;
mod properties;
mod publishing;
mod rules;
mod starting;
mod state;
mod steps;
mod world;

use processor::LogPartitions::{All, Owned};

use checker::{Explored, explore};
use commands::{Commands, Outcome, Script};
use kinds::{AHEAD, BEHIND, GAP, MOVED, OWNER_FOLLOWS, PENDING, REFUSED, UNSYNCED, WARMING};
use limits::Limit;
use rules::Rules;
use state::Who;
use steps::{Fault, Step};
use world::World;

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

const A: Who = Who(0);
const B: Who = Who(1);

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// A world of one partition and two instances that do not follow, in which any faults may happen.
fn world(script: &[Script], faults: u8) -> World {
    World {
        commands: Commands::new(script),
        partitions: 1,
        instances: 2,
        first: &[],
        log_partitions: Owned,
        times_out: true,
        faults,
        may_happen: |_| true,
        rules: Rules::default(),
    }
}

/// The same, or larger if the variables say so.
fn larger(commands: usize, faults: u8) -> World {
    let commands = number("MODEL_COMMANDS").unwrap_or(commands);
    let faults = number("MODEL_FAULTS").map_or(faults, |faults| faults as u8);
    let world = world(&SCRIPT[..commands], faults);
    let partitions = number("MODEL_PARTITIONS").unwrap_or(world.partitions);
    let instances = number("MODEL_INSTANCES").unwrap_or(world.instances);
    World { partitions, instances, ..world }
}

#[track_caller]
fn explores(world: &World, kinds: &[&str]) -> Explored {
    let explored = explore(world).unwrap_or_else(|found| panic!("{found}"));
    let World { partitions, log_partitions, instances, commands, faults, .. } = world;
    let commands = commands.count();
    println!(
        "partitions: {partitions} ({log_partitions:?} in a log), instances: {instances}, commands of each partition: \
         {commands}, faults: {faults}: {explored:?}"
    );
    for kind in kinds {
        assert!(explored.kinds.contains_key(kind), "nothing had: {kind}");
    }
    explored
}

#[test]
fn every_schedule_of_faults_keeps_the_promises() {
    let kinds =
        [REFUSED, PENDING, GAP, BEHIND, Limit::NewLogWithoutOffset.name(), Limit::AcceptedTooLate.name()];
    let explored = explores(&larger(2, 2), &kinds);
    assert!(explored.states >= 100_000, "only {}", explored.states);
}

#[test]
fn keys_are_recognized_in_every_schedule() {
    let may_happen =
        |fault| !matches!(fault, Fault::CommitAsOther(..) | Fault::ForgetOffset(_) | Fault::Delete(..));
    explores(&World { may_happen, ..world(&SCRIPT, 1) }, &[BEHIND]);
}

#[test]
fn a_reused_key_is_rejected_in_every_schedule() {
    explores(&world(&REUSED, 1), &[REFUSED, BEHIND]);
}

/// Longer schedules, which come to all limits.
#[test]
fn offsets_that_are_lost_or_moved_after_a_stop_are_known_or_refused() {
    let may_happen =
        |fault| matches!(fault, Fault::Stop(_) | Fault::ForgetOffset(_) | Fault::CommitAsOther(..));
    explores(&World { may_happen, ..world(&SCRIPT[..2], 3) }, &Limit::ALL.map(Limit::name));
}

/// A log that begins as a copy of another instance's keeps no clean stop: that one was not its own.
#[test]
fn a_copy_of_another_log_keeps_the_promises() {
    explores(&World { may_happen: copies, ..world(&SCRIPT[..1], 4) }, &[REFUSED]);
}

#[test]
fn followers_keep_the_promises() {
    let limits = [Limit::NewLogWithoutOffset.name(), Limit::AcceptedTooLate.name()];
    let kinds = [&[REFUSED, GAP, BEHIND, AHEAD, UNSYNCED, WARMING], &limits[..]].concat();
    let explored = explores(&World { log_partitions: All, ..larger(2, 1) }, &kinds);
    assert!(explored.states >= 100_000, "only {}", explored.states);
}

/// Logs lose what they followed, with its keys, and follow it again.
#[test]
fn followers_recognize_keys() {
    let may_happen = |fault| matches!(fault, Fault::Crash(_) | Fault::PowerLoss(_) | Fault::Restore(..));
    let world = World { log_partitions: All, may_happen, ..world(&REUSED[..2], 1) };
    explores(&world, &[BEHIND, AHEAD, UNSYNCED]);
}

/// Batches and transactions have commands of both, and the group moves one alone.
#[test]
fn partitions_of_one_transaction_change_hands_apart() {
    explores(&World { partitions: 2, ..fencing(1, 1) }, &[PENDING, MOVED, BEHIND]);
}

/// Each instance has one partition, and follows the other one, until the group moves one or removes an instance. How an
/// instance joins is explored with one partition.
#[test]
fn owners_follow_each_other() {
    use Step::{Assign, Join, Post, Start, Warm};
    let first = &[Post(0), Post(1), Start(A), Assign(A, 0), Warm(B), Join(B), Assign(B, 1)];
    let may_happen = |fault| matches!(fault, Fault::HandOver(..) | Fault::Evict(_));
    let world = World { partitions: 2, log_partitions: All, first, may_happen, ..world(&SCRIPT[..1], 1) };
    explores(&world, &[PENDING, BEHIND, OWNER_FOLLOWS, AHEAD]);
}

#[test]
fn three_instances_keep_the_promises() {
    explores(&World { instances: 3, ..fencing(2, 1) }, &[PENDING, BEHIND]);
}

/// All output is published, although two instances are killed that leave a transaction open: so the mark always names
/// whoever may have something open.
#[test]
fn whoever_takes_over_fences_the_instance_before() {
    explores(&World { instances: 3, ..fencing(1, 2) }, &[PENDING, BEHIND]);
}

/// Brokers that never abort what a killed process left open.
fn fencing(commands: usize, faults: u8) -> World {
    World { times_out: false, may_happen: of_the_group, ..world(&SCRIPT[..commands], faults) }
}

/// Those that have to do with who has which partition, and what it has open.
fn of_the_group(fault: Fault) -> bool {
    use Fault::{Abort, CommitLate, CommitUnnoticed, Crash, Evict, Fence, HandOver, Kill, Stop};
    matches!(
        fault,
        HandOver(..)
            | Evict(_)
            | Crash(_)
            | Kill(_)
            | Stop(_)
            | CommitUnnoticed(_)
            | CommitLate(_)
            | Abort(_)
            | Fence(_)
    )
}

/// Those that matter to the record of a clean stop in a copy of another instance's log.
fn copies(fault: Fault) -> bool {
    matches!(fault, Fault::Stop(_) | Fault::Crash(_) | Fault::ForgetOffset(_) | Fault::Restore(B, A))
}
