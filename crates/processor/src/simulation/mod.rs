//! The processor's own stages on real log files against a simulated Kafka, under schedules of faults.
//!
//! A seed gives a schedule: which instance does one step of which stage, and what goes wrong in the meantime, also at the
//! broker and in the group. After the schedule all faults cease, the remaining instances run until they are idle, and topics
//! and logs are compared with a plain model. Everything is on one thread and nothing waits, so a seed gives the same run
//! each time.
//!
//! `SIMULATION_SEED=n cargo test --lib simulation` replays one schedule, and prints it if it fails;
//! `SIMULATION_SCHEDULES=n` runs that number of schedules, from that seed on. With `-- --nocapture` it prints how often each
//! fault happened.
//!
//! - `cluster`, `group`: the simulated Kafka. `clients`: how the processor sees it.
//! - `replies`: where the simulated commands ask for replies.
//! - `instance`: a process and its log file, which runs the processor's own pipeline.
//! - `schedule`: what happens. `disaster`, `foreign`: what a person has to resolve. `rest`, `model`: the required result.
//! - `rot`: a disk that changes a log.
//! - `scenarios`: single faults at which the processor stops. `handover`: what two processes know of each other's work.

mod clients;
mod cluster;
mod disaster;
mod foreign;
mod group;
mod handover;
mod instance;
mod model;
mod replies;
mod rest;
mod rot;
mod scenarios;
mod schedule;
mod stops;

use std::sync::atomic::{AtomicU64, Ordering};

use kafka::mark::{Marker, RulesHash};
use schedule::{Failure, Happened};
use uuid::Uuid;

/// In all offsets that simulated processors commit with this log.
fn marker(instance: Uuid) -> Marker {
    Marker { instance, rules: RulesHash(7) }
}

const TOPIC: &str = "activity.commands";
/// The idempotency window, so short that keys expire within a schedule.
const WINDOW_MS: i64 = 60;
/// The number of schedules of a usual run.
const SCHEDULES: u64 = 2000;
/// The number of schedules within which each break of the rule must be noticed.
const NOTICED_WITHIN: u64 = 1000;

/// A break of the rule, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    /// The append and the move of `logged` are not one transaction: a crash comes between.
    CursorApart,
    /// A record below `logged` is decided again instead of read from the log.
    DecideAgain,
    /// Output is published before the log has it.
    PublishFirst,
    /// Output in flight when a partition is lost or revoked is published with the next membership.
    OutliveAssignment,
    /// Output at or above `logged` and below `published` is published too.
    IgnorePublished,
    /// A transaction whose outcome is unknown is retried, without reading `published` again.
    RetryUnknown,
    /// A batch of an earlier epoch is appended.
    AppendAnyEpoch,
    /// A batch of an earlier epoch is published if its partition is held again.
    PublishAnyEpoch,
    /// The claims of keys and `logged` are not moved by one transaction: a crash comes between.
    ClaimsApart,
    /// The record at `logged - 1` is not compared with the log's anchor.
    AnchorIgnored,
    /// An absent group offset counts as the beginning, whatever the log has seen published.
    SeenIgnored,
    /// The group's offset counts as published, whoever committed it.
    MarkIgnored,
    /// The mark of a clean stop outlives the next start.
    CleanForEver,
    /// A stop that abandons work in flight is recorded as clean.
    CleanInFlight,
    /// A clean stop does not wait for the work in flight.
    StopUndrained,
    /// If undecided commands are gone, it continues at the first remaining record.
    SkipLost,
    /// It continues, however often it is fenced.
    NeverFencedTwice,
    /// Only one of the two producers is replaced if a transaction's outcome is unknown.
    HalfReset,
    /// A client that lost the brokers is treated as one that they answer.
    LostForEver,
    /// A row of the log is used without comparing its checksum.
    RowsUnchecked,
    /// The observer gets the read position as the published offset.
    ReadForPublished,
    /// What is followed is published too.
    PublishFollowed,
    /// An instance joins a group that has members, whatever its log lacks.
    JoinCold,
    /// The follower appends what it had decided of a partition that the session has taken.
    AppendTaken,
}

/// From this seed on, instances follow the partitions that they don't own.
const FOLLOWING: u64 = 1 << 32;
/// The number of such schedules in a usual run.
const FOLLOWING_SCHEDULES: u64 = 1000;

fn add(all: &mut Happened, more: Happened) {
    for (what, times) in more {
        *all.entry(what).or_default() += times;
    }
}

/// Runs schedules until one fails, on all cores. Returns what happened in them, or the lowest seed that failed.
fn run(seeds: std::ops::Range<u64>, mutation: Option<Mutation>) -> Result<Happened, Failure> {
    let next = AtomicU64::new(seeds.start);
    let worker = || {
        let mut all = Happened::new();
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end {
                return Ok(all);
            }
            match schedule::run(seed, mutation) {
                Ok(happened) => add(&mut all, happened),
                Err(failure) => {
                    next.store(seeds.end, Ordering::SeqCst);
                    return Err(failure);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let ended: Vec<Result<Happened, Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().map(|thread| thread.join().expect("panics are caught")).collect()
    });
    let (mut all, mut failed) = (Happened::new(), None::<Failure>);
    for ended in ended {
        match ended {
            Ok(happened) => add(&mut all, happened),
            Err(failure) => {
                failed = Some(failed.filter(|other| other.seed < failure.seed).unwrap_or(failure));
            }
        }
    }
    failed.map_or(Ok(all), Err)
}

fn describe(Failure { seed, reason, trace }: &Failure) -> String {
    let trace = trace.join("\n");
    format!("{trace}\nseed {seed}: {reason}\nagain with: SIMULATION_SEED={seed} cargo test --lib simulation")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn schedules_of_faults_lose_nothing_and_double_nothing() {
    let seed = number("SIMULATION_SEED");
    let schedules = number("SIMULATION_SCHEDULES").unwrap_or(if seed.is_some() { 1 } else { SCHEDULES });
    let seeds = seed.unwrap_or(0)..seed.unwrap_or(0) + schedules;
    let happened = passes(seeds);
    if schedules >= SCHEDULES {
        let missing: Vec<_> = HAPPENS.iter().filter(|what| !happened.contains_key(**what)).collect();
        assert!(missing.is_empty(), "no schedule had: {missing:?}");
    }
}

fn passes(seeds: std::ops::Range<u64>) -> Happened {
    let happened = match run(seeds, None) {
        Ok(happened) => happened,
        Err(failure) => panic!("{}", describe(&failure)),
    };
    happened.iter().for_each(|(what, times)| println!("{times:>6} {what}"));
    happened
}

#[test]
fn logs_with_all_partitions_are_complete_and_lose_nothing_and_double_nothing() {
    let schedules = number("SIMULATION_SCHEDULES").unwrap_or(FOLLOWING_SCHEDULES);
    let happened = passes(FOLLOWING..FOLLOWING + schedules);
    if schedules >= FOLLOWING_SCHEDULES {
        let missing: Vec<_> =
            FOLLOWING_HAPPENS.iter().filter(|what| !happened.contains_key(**what)).collect();
        assert!(missing.is_empty(), "no schedule had: {missing:?}");
    }
}

const FOLLOWING_HAPPENS: [&str; 4] = [
    "a partition was taken while something of it was decided",
    "an instance that was not warm joined, as nothing moved",
    "an instance was warm before it joined",
    "the next owner aborted a transaction that was left open",
];

const LOSS: &str = "a client that lost the brokers was replaced";

/// Events that a usual run must include.
const HAPPENS: [&str; 30] = [
    "a commit with unknown outcome had no effect",
    "a commit with unknown outcome had its effect",
    LOSS,
    "a copy of a log ran beside the original",
    "a log was removed",
    "a log went back to an older copy",
    "a partition stalled",
    "a reply could not be delivered",
    "a reply was refused with its transaction",
    "a transaction timed out",
    "accepted: group-offset",
    "accepted: lost-commands",
    "accepted: republish",
    "accepted: skip-unpublished",
    "an instance was killed",
    "an instance was killed in the middle of a transaction",
    "an instance with batches in flight was replaced",
    "an offset was asked for before the transaction that moves it was marked",
    "another consumer committed for the group",
    "offsets were forgotten after a clean stop",
    "offsets were forgotten after a kill",
    "retention deleted published commands",
    "somebody set the group's offsets",
    "the disk was full in the middle of an append",
    "the generation moved on under a running instance",
    "the group's offsets were put back",
    "the next owner aborted a transaction that was left open",
    "the topic was created again",
    "the topic was created again, longer",
    "undecided commands were deleted",
];

/// The break is noticed, and for the right reason: the failure contains one of `reasons`.
#[track_caller]
fn notices(mutation: Mutation, reasons: &[&str]) {
    notices_from(0, mutation, reasons);
}

#[track_caller]
fn notices_from(seed: u64, mutation: Mutation, reasons: &[&str]) {
    let Err(failure) = run(seed..seed + NOTICED_WITHIN, Some(mutation)) else {
        panic!("{mutation:?} went unnoticed in {NOTICED_WITHIN} schedules");
    };
    let noticed = reasons.iter().any(|reason| failure.reason.contains(reason));
    assert!(noticed, "{mutation:?} was noticed, but not for any of {reasons:?}: {}", describe(&failure));
    println!("{mutation:?} noticed at seed {}: {}", failure.seed, failure.reason);
}

#[test]
fn an_append_apart_from_its_cursor_is_noticed() {
    notices(Mutation::CursorApart, &["a log has", "UNIQUE constraint failed"]);
}

#[test]
fn a_record_that_is_decided_again_is_noticed() {
    notices(Mutation::DecideAgain, &["published {}, wanted [\"notification"]);
}

#[test]
fn publishing_before_the_log_is_noticed() {
    notices(Mutation::PublishFirst, &["and its log goes to"]);
}

#[test]
fn a_batch_that_outlives_its_assignment_is_noticed() {
    notices(Mutation::OutliveAssignment, &["recorded a clean stop at", "published {}, wanted"]);
}

#[test]
fn ignoring_the_published_cursor_is_noticed() {
    notices(Mutation::IgnorePublished, &["the committed offset went back"]);
}

#[test]
fn retrying_a_commit_of_unknown_end_is_noticed() {
    notices(Mutation::RetryUnknown, &["\": 2}, wanted"]);
}

#[test]
fn appending_a_batch_of_an_ended_epoch_is_noticed() {
    notices(Mutation::AppendAnyEpoch, &["the first offset is", "the next offset is"]);
}

#[test]
fn publishing_a_batch_of_an_ended_epoch_is_noticed() {
    notices(Mutation::PublishAnyEpoch, &["published {}, wanted"]);
}

#[test]
fn claims_apart_from_their_cursor_are_noticed() {
    notices(Mutation::ClaimsApart, &["wanted Some((Coordinates", "published {\"notification"]);
}

#[test]
fn not_comparing_the_anchor_is_noticed() {
    notices(
        Mutation::AnchorIgnored,
        &[
            "stopped with another message than [\"not the topic that the log was made from\"",
            "nobody stopped with [\"not the topic that the log was made from\"",
        ],
    );
}

#[test]
fn ignoring_published_seen_is_noticed() {
    notices(Mutation::SeenIgnored, &["nobody stopped with [\"the group's committed offset is\""]);
}

#[test]
fn taking_an_offset_without_a_mark_for_published_is_noticed() {
    notices(
        Mutation::MarkIgnored,
        &[
            "nobody stopped with [\"was not committed by this program\"]",
            "stopped with another message than [\"was not committed by this program\"]",
        ],
    );
}

#[test]
fn a_mark_of_a_clean_stop_that_stays_is_noticed() {
    notices(Mutation::CleanForEver, &["marked clean"]);
}

#[test]
fn a_clean_stop_with_batches_in_flight_is_noticed() {
    notices(Mutation::CleanInFlight, &["abandoned batches in flight, and recorded a clean stop at"]);
}

#[test]
fn a_stop_that_does_not_wait_for_batches_in_flight_is_noticed() {
    notices(Mutation::StopUndrained, &["stopped in order with"]);
}

#[test]
fn skipping_commands_that_are_gone_is_noticed() {
    notices(Mutation::SkipLost, &["nobody stopped with [\"commands were deleted before they were decided\""]);
}

#[test]
fn two_processes_that_fence_each_other_for_ever_are_noticed() {
    notices(Mutation::NeverFencedTwice, &["nobody stopped with [\"fenced twice by a newer producer\""]);
}

#[test]
fn a_client_that_lost_the_brokers_and_stays_is_noticed() {
    notices(Mutation::LostForEver, &["it never comes to rest"]);
}

#[test]
fn taking_the_read_position_for_published_is_noticed() {
    notices(Mutation::ReadForPublished, &["says that partition", "and it says"]);
}

#[test]
fn replacing_only_one_producer_is_noticed() {
    notices(Mutation::HalfReset, &["\": 2}, wanted"]);
}

#[test]
fn publishing_what_is_followed_is_noticed() {
    notices_from(FOLLOWING, Mutation::PublishFollowed, &["\": 2"]);
}

#[test]
fn joining_without_the_history_is_noticed() {
    notices_from(FOLLOWING, Mutation::JoinCold, &["records behind it"]);
}

#[test]
fn appending_what_was_taken_is_noticed() {
    notices_from(FOLLOWING, Mutation::AppendTaken, &["the first offset is", "the next offset is"]);
}
