//! Stops with a batch in flight.

use super::scenarios::Scenario;
use crate::pipeline::Stage;

/// Ten commands are published, three more are appended and wait for the publisher.
fn in_flight() -> Scenario {
    let mut scenario = Scenario::after(10);
    scenario.produce(3);
    scenario.append_only();
    scenario
}

/// `published_seen` of the partition, and whether the log records it as exact.
fn recorded(scenario: &Scenario) -> (Option<i64>, bool) {
    let cursors = scenario.instance.cursors();
    (cursors[0].seen, cursors[0].clean)
}

#[test]
fn a_stop_waits_for_batches_in_flight_and_is_recorded_as_clean() {
    let mut scenario = in_flight();
    scenario.instance.ask_to_stop(true);
    for stage in [Stage::Poll, Stage::Decide, Stage::Append].repeat(10) {
        scenario.instance.step(stage).unwrap();
    }
    assert!(scenario.instance.is_running(), "it waits");
    assert!(!recorded(&scenario).1);
    scenario.run(2).unwrap();
    assert!(!scenario.instance.is_running());
    assert_eq!((scenario.committed(), recorded(&scenario)), (Some(13), (Some(13), true)));
}

#[test]
fn a_stop_consumes_nothing_more() {
    let mut scenario = in_flight();
    scenario.instance.ask_to_stop(true);
    scenario.produce(5);
    scenario.run(10).unwrap();
    assert_eq!((scenario.committed(), recorded(&scenario)), (Some(13), (Some(13), true)));
}

#[test]
fn a_stop_that_times_out_is_not_clean_and_loses_nothing() {
    let mut scenario = in_flight();
    let before = scenario.visible();
    scenario.instance.ask_to_stop(false);
    scenario.instance.step(Stage::Poll).unwrap();
    assert!(!scenario.instance.is_running());
    assert_eq!((scenario.committed(), recorded(&scenario)), (Some(10), (Some(10), false)));
    assert_eq!(scenario.visible(), before);
    scenario.start();
    scenario.run(40).unwrap();
    assert_eq!(scenario.committed(), Some(13));
}

/// A transaction with an unknown outcome blocks its partition until its producer is replaced, so its offset is never
/// recorded as exact.
#[test]
fn a_stop_waits_for_the_outcome_of_a_transaction() {
    let mut scenario = in_flight();
    scenario.cluster.borrow_mut().refusing = true;
    scenario.instance.step(Stage::Publish).unwrap();
    scenario.instance.ask_to_stop(true);
    scenario.run(5).unwrap();
    assert!(scenario.instance.is_running(), "the published offset is unknown");
    assert!(!recorded(&scenario).1);
    scenario.cluster.borrow_mut().refusing = false;
    scenario.run(20).unwrap();
    assert!(!scenario.instance.is_running());
    // The work in flight is stale, and left to the next start.
    let (seen, clean) = recorded(&scenario);
    assert!(!clean || seen == scenario.committed(), "{seen:?}");
    scenario.start();
    scenario.run(40).unwrap();
    assert_eq!(scenario.committed(), Some(13));
}
