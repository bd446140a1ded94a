//! Each break of the rule yields a counterexample.

use contract::{Claim, Decision, Event, IdempotencyKey};
use kafka::mark::{Committed, Mark, RulesHash};
use processor::{Accept, Facts, LogPartitions, Refusal, Start};
use uuid::Uuid;

use super::{
    SCRIPT,
    checker::explore,
    copies, fencing,
    rules::{Break, Rules},
    steps::Fault,
    world,
    world::World,
};

/// The shortest counterexample of one partition and two instances that do not follow violates this property, and has this
/// number of steps.
#[track_caller]
fn yields(
    rules: Rules,
    commands: usize,
    faults: u8,
    may_happen: fn(Fault) -> bool,
    violation: &str,
    steps: usize,
) {
    finds(&World { may_happen, rules, ..world(&SCRIPT[..commands], faults) }, violation, steps);
}

/// The same of instances that follow, under such faults.
#[track_caller]
fn yields_following(rules: Rules, commands: usize, faults: u8, violation: &str, steps: usize) {
    let world = World { may_happen: ends, rules, ..world(&SCRIPT[..commands], faults) };
    finds(&World { log_partitions: LogPartitions::All, ..world }, violation, steps);
}

#[track_caller]
fn finds(world: &World, violation: &str, steps: usize) {
    let found = match explore(world) {
        Err(found) => found,
        Ok(explored) => panic!("no counterexample in {explored:?}"),
    };
    println!("{found}");
    assert!(found.violation.contains(violation), "{found}");
    assert_eq!(found.steps.len(), steps, "{found}");
}

fn any(_: Fault) -> bool {
    true
}

/// Those that matter to the record of a clean stop.
fn stops(fault: Fault) -> bool {
    matches!(fault, Fault::Stop(_) | Fault::Crash(_) | Fault::CommitUnnoticed(_) | Fault::ForgetOffset(_))
}

/// Those of another process that a follower takes over from.
fn ends(fault: Fault) -> bool {
    matches!(fault, Fault::Crash(_) | Fault::ForgetOffset(_))
}

fn broken(broken: Break) -> Rules {
    Rules { broken: Some(broken), ..Rules::default() }
}

const MARK: Mark = Mark { instance: Uuid::nil(), clock: 0, rules: RulesHash(0) };

const TWICE: &str = "output is visible at most once";
const LOST: &str = "output is visible exactly up to the published offset";
const MARKED: &str = "a marked offset says how far the output is published";

#[test]
fn publishing_whatever_is_published() {
    yields(broken(Break::PublishAll), 2, 1, any, TWICE, 20);
}

/// Everything that is read is published.
fn plan_without_published(facts: &Facts, accept: Accept) -> Result<Start, Refusal> {
    processor::plan(facts, accept).map(|start| Start { published: start.offset, ..start })
}

#[test]
fn starting_without_the_published_cursor() {
    yields(Rules { plan: plan_without_published, ..Rules::default() }, 2, 1, any, MARKED, 14);
}

/// The group's offset counts, whoever committed it.
fn plan_without_marks(facts: &Facts, accept: Accept) -> Result<Start, Refusal> {
    let marked = |found: Committed| Committed { mark: found.mark.or(Some(MARK)), ..found };
    processor::plan(&Facts { committed: facts.committed.map(marked), ..facts.clone() }, accept)
}

#[test]
fn trusting_an_offset_without_a_mark() {
    yields(Rules { plan: plan_without_marks, ..Rules::default() }, 2, 1, any, MARKED, 5);
}

/// An absent offset counts as the beginning, whatever the log has seen published.
fn plan_without_seen(facts: &Facts, accept: Accept) -> Result<Start, Refusal> {
    let beginning = Committed { offset: facts.bounds.start, mark: Some(MARK) };
    let cursor = facts.cursor.map(|cursor| event_log::Cursor { published_seen: None, ..cursor });
    let committed = facts.committed.or(Some(beginning));
    processor::plan(&Facts { committed, cursor, ..facts.clone() }, accept)
}

#[test]
fn ignoring_what_the_log_has_seen_published() {
    yields(Rules { plan: plan_without_seen, ..Rules::default() }, 1, 2, stops, MARKED, 13);
}

/// Reading begins at the published cursor, whatever the log lacks.
fn plan_without_logged(facts: &Facts, accept: Accept) -> Result<Start, Refusal> {
    processor::plan(facts, accept).map(|start| Start { offset: start.published, ..start })
}

#[test]
fn starting_without_the_logs_cursor() {
    let rules = Rules { plan: plan_without_logged, ..Rules::default() };
    yields(rules, 1, 1, any, "at rest, the owner's log is complete", 17);
}

/// The clock at the published offset is taken from the log, however far that goes.
fn plan_with_the_clock_of_the_log(facts: &Facts, accept: Accept) -> Result<Start, Refusal> {
    let clock = facts.cursor.map_or(0, |cursor| cursor.clock);
    processor::plan(facts, accept).map(|start| Start { clock, ..start })
}

#[test]
fn taking_the_clock_of_the_log() {
    let rules = Rules { plan: plan_with_the_clock_of_the_log, ..Rules::default() };
    yields(rules, 3, 1, any, "the clock in a mark is not ahead of its offset", 18);
}

/// Commands that were deleted undecided are skipped.
fn plan_that_skips(facts: &Facts, accept: Accept) -> Result<Start, Refusal> {
    processor::plan(facts, Accept { lost_commands: true, ..accept })
}

#[test]
fn skipping_commands_that_are_gone() {
    yields(Rules { plan: plan_that_skips, ..Rules::default() }, 2, 1, any, MARKED, 8);
}

/// The key is not looked up.
fn settle_without_claims(
    event: Event,
    key: Option<IdempotencyKey>,
    _: Option<&Claim>,
    clock: i64,
    window_ms: i64,
) -> Decision {
    contract::settle(event, key, None, clock, window_ms)
}

#[test]
fn accepting_a_repeated_key() {
    let rules = Rules { settle: settle_without_claims, ..Rules::default() };
    yields(rules, 3, 0, any, "every log has the decision that the contract requires", 9);
}

#[test]
fn an_append_apart_from_its_cursor() {
    yields(broken(Break::CursorApart), 2, 1, any, "a log has each command once", 15);
}

#[test]
fn claims_apart_from_their_cursor() {
    let violation = "every log has the decision that the contract requires";
    yields(broken(Break::ClaimsApart), 3, 1, any, violation, 19);
}

#[test]
fn deciding_again_what_is_logged() {
    yields(broken(Break::DecideAgain), 2, 1, any, LOST, 18);
}

#[test]
fn publishing_before_the_append() {
    yields(broken(Break::PublishFirst), 2, 0, any, "nothing is published before it is decided in the log", 7);
}

#[test]
fn publishing_a_batch_of_an_ended_epoch() {
    yields(broken(Break::PublishAnyEpoch), 2, 1, any, LOST, 19);
}

#[test]
fn publishing_a_partition_that_was_released_with_one_that_is_held() {
    let rules = broken(Break::OutliveAssignment);
    let world = World { partitions: 2, rules, ..fencing(1, 1) };
    finds(&world, "nothing is published by who does not have the partition", 12);
}

/// What is left open by the second owner, which is killed, stays open: the mark still names the first one, which is itself the
/// third.
#[test]
fn leaving_the_mark_of_the_instance_before() {
    let rules = broken(Break::MarkLeft);
    let world = World { rules, ..fencing(1, 2) };
    finds(&world, "at rest, somebody has the partition", 17);
}

#[test]
fn appending_a_batch_of_an_ended_epoch() {
    yields(broken(Break::AppendAnyEpoch), 2, 1, any, "a log has each command once", 14);
}

#[test]
fn retrying_a_commit_of_unknown_outcome() {
    yields(broken(Break::RetryUnknown), 2, 1, any, TWICE, 13);
}

#[test]
fn committing_without_the_groups_membership() {
    yields(broken(Break::AnyMembership), 2, 1, any, TWICE, 20);
}

#[test]
fn joining_again_before_the_epochs_end() {
    yields(broken(Break::MembershipFirst), 2, 1, any, TWICE, 21);
}

#[test]
fn a_member_that_never_learns_of_the_next_generation() {
    yields(broken(Break::NeverRefresh), 1, 0, any, "at rest, all output is published", 8);
}

#[test]
fn retrying_a_refused_commit_at_once() {
    yields(broken(Break::RetryAtOnce), 1, 0, any, "without another fault, it comes to rest", 9);
}

#[test]
fn recording_as_published_what_is_appended() {
    yields(broken(Break::SeenEarly), 1, 0, any, "a log has seen no more published than is", 7);
}

#[test]
fn reading_an_offset_that_a_transaction_may_move() {
    yields(broken(Break::UnstableOffset), 2, 1, any, TWICE, 20);
}

/// Nothing is lost, but a person has to look.
#[test]
fn leaving_the_first_offset_uncommitted() {
    yields(broken(Break::FirstOffsetLeft), 2, 1, any, "nobody refuses to start", 8);
}

#[test]
fn a_clean_stop_that_counts_for_ever() {
    yields(broken(Break::CleanForEver), 1, 3, stops, MARKED, 18);
}

#[test]
fn a_clean_stop_with_work_in_flight() {
    yields(broken(Break::CleanInFlight), 1, 3, stops, MARKED, 15);
}

#[test]
fn a_clean_stop_that_travels_with_a_copy() {
    let rules = broken(Break::CleanTravels);
    yields(rules, 1, 4, copies, MARKED, 22);
}

#[test]
fn publishing_what_is_followed() {
    let violation = "nothing is published by who does not have the partition";
    yields_following(broken(Break::PublishFollowed), 1, 0, violation, 8);
}

#[test]
fn appending_what_was_taken() {
    yields_following(broken(Break::AppendTaken), 1, 0, "a log has each command once", 12);
}

#[test]
fn taking_the_partition_after_reading_the_cursor() {
    yields_following(broken(Break::TakeLate), 1, 0, "a log has each command once", 12);
}

#[test]
fn joining_cold() {
    let violation = "whoever joins a group that has members lacks no more than it may";
    yields_following(broken(Break::JoinCold), 2, 0, violation, 13);
}

#[test]
fn recording_as_published_what_is_followed() {
    yields_following(broken(Break::SeeFollowed), 1, 0, "a log has seen no more published than is", 6);
}

/// The same for logs that have seen some output published, as a follower does before it owns the partition.
fn plan_without_some_seen(facts: &Facts, accept: Accept) -> Result<Start, Refusal> {
    let has_seen = facts.cursor.is_some_and(|cursor| cursor.published_seen > Some(0));
    if has_seen { plan_without_seen(facts, accept) } else { processor::plan(facts, accept) }
}

#[test]
fn ignoring_what_a_follower_has_seen_published() {
    let rules = Rules { plan: plan_without_some_seen, ..Rules::default() };
    yields_following(rules, 1, 2, MARKED, 18);
}

/// The history before the group's offset is not read.
fn follow_from_committed(facts: &Facts, accept: Accept) -> Result<Start, Refusal> {
    let committed = facts.committed.map_or(0, |found| found.offset);
    processor::plan_following(facts, accept)
        .map(|start| Start { offset: start.offset.max(committed), ..start })
}

#[test]
fn following_from_the_groups_offset() {
    let rules = Rules { plan_following: follow_from_committed, ..Rules::default() };
    yields_following(rules, 2, 0, "at rest, every log is complete", 13);
}
