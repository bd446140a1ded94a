//! Single faults at which the processor stops, or from which it continues. A schedule can't include them, because a refusal
//! counts as a failure there.

use std::{cell::RefCell, rc::Rc};

use contract::Coordinates;
use kafka::Polled;

use super::{
    cluster::{Cluster, Shared},
    instance::Instance,
    model::command,
};
use crate::{pipeline::Stage, start::Accept};

/// One instance and one partition.
pub(super) struct Scenario {
    pub cluster: Shared,
    pub instance: Instance,
    rng: fastrand::Rng,
    clock: i64,
    _directory: tempfile::TempDir,
}

impl Scenario {
    /// An instance that has published this number of commands.
    pub fn after(commands: usize) -> Self {
        let cluster = Rc::new(RefCell::new(Cluster::new(1, 1)));
        let directory = tempfile::tempdir().unwrap();
        let instance = Instance::new("i0".into(), directory.path(), &cluster, None);
        let rng = fastrand::Rng::with_seed(1);
        let mut scenario = Self { cluster, instance, rng, clock: 1000, _directory: directory };
        scenario.produce(commands);
        scenario.start();
        scenario.run(40).unwrap();
        assert_eq!(scenario.committed(), Some(commands as i64));
        scenario
    }

    pub fn produce(&mut self, commands: usize) {
        let mut cluster = self.cluster.borrow_mut();
        for _ in 0..commands {
            self.clock += 1;
            let at = Coordinates { partition: 0, offset: cluster.end(0), timestamp: self.clock };
            let (_, record) = command(&mut self.rng, at, false, false);
            cluster.topic.get_mut(&0).unwrap().push(Some(record));
        }
    }

    pub fn start(&mut self) {
        let mut cluster = self.cluster.borrow_mut();
        self.instance.dead.drain(..).for_each(|client| cluster.group.leave(client));
        drop(cluster);
        self.instance.start().unwrap();
    }

    pub fn run(&mut self, rounds: usize) -> Result<(), String> {
        (0..rounds).flat_map(|_| Stage::ALL).try_for_each(|stage| {
            self.instance.step(stage)?;
            self.instance.stopped.take().map_or(Ok(()), Err)
        })
    }

    fn stop(&mut self) {
        self.instance.ask_to_stop(true);
        self.run(1).unwrap();
        assert!(!self.instance.is_running());
    }

    fn run_until_held(&mut self) {
        let mut steps = 0;
        while self.instance.owned().is_empty() || !self.instance.is_settled() {
            self.instance.step(Stage::Poll).unwrap();
            steps += 1;
            assert!(steps < 100 && self.instance.stopped.is_none(), "{:?}", self.instance.stopped);
        }
    }

    /// Runs all stages but the last.
    pub fn append_only(&mut self) {
        for stage in [Stage::Poll, Stage::Decide, Stage::Append].repeat(10) {
            self.instance.step(stage).unwrap();
        }
    }

    pub fn committed(&self) -> Option<i64> {
        self.cluster.borrow().committed.get(&0).copied()
    }

    /// Another consumer joins the group, gets the partition, commits an offset, and leaves.
    fn visit(&mut self, offset: i64) {
        let visitor = self.cluster.borrow_mut().group.join();
        let is_given = |scenario: &mut Self| {
            scenario.run(1).unwrap();
            let mut cluster = scenario.cluster.borrow_mut();
            let given = matches!(cluster.group.poll(visitor), Some(Polled::Assigned(_)));
            if !given && cluster.group.is_settled() {
                cluster.group.call_to_join();
            }
            given
        };
        assert!((0..400).any(|_| is_given(self)), "it never gets the partition");
        let mut cluster = self.cluster.borrow_mut();
        cluster.commit_as_other(0, offset);
        cluster.group.leave(visitor);
    }

    /// Starts and runs. Returns the message with which it stops.
    fn refusal(&mut self) -> String {
        self.start();
        self.run(40).unwrap_err()
    }

    pub fn visible(&self) -> usize {
        self.cluster.borrow().visible.len()
    }
}

#[test]
fn offsets_that_kafka_forgot_after_a_clean_stop_are_known() {
    let mut scenario = Scenario::after(10);
    scenario.stop();
    let before = scenario.visible();
    scenario.cluster.borrow_mut().committed.clear();
    scenario.start();
    scenario.run(40).unwrap();
    assert_eq!((scenario.committed(), scenario.visible()), (Some(10), before));
}

#[test]
fn lower_offsets_after_a_clean_stop_stay_known_through_a_kill() {
    let mut scenario = Scenario::after(10);
    scenario.stop();
    let before = scenario.visible();
    // The brokers lost the last commits: this one is an earlier commit of the processor.
    scenario.cluster.borrow_mut().committed.insert(0, 3);
    for _ in 0..2 {
        scenario.start();
        scenario.run(40).unwrap();
        scenario.instance.crash();
    }
    assert_eq!((scenario.committed(), scenario.visible()), (Some(10), before));
}

#[test]
fn offsets_that_are_lost_after_a_kill_stop_it() {
    let mut scenario = Scenario::after(10);
    scenario.produce(1);
    scenario.run(10).unwrap();
    scenario.instance.crash();
    let before = scenario.visible();
    scenario.cluster.borrow_mut().committed.clear();
    let refusal = scenario.refusal();
    assert!(refusal.contains("the group's committed offset is absent"), "{refusal}");
    assert_eq!((scenario.committed(), scenario.visible()), (None, before));
}

#[test]
fn stops_at_a_topic_that_was_created_again() {
    for (commands, wanted) in
        [(10, "not the topic that the log was made from"), (4, "beyond the topic's end")]
    {
        let mut scenario = Scenario::after(10);
        scenario.instance.crash();
        let before = scenario.visible();
        scenario.cluster.borrow_mut().topic.get_mut(&0).unwrap().clear();
        scenario.produce(commands);
        let refusal = scenario.refusal();
        assert!(refusal.contains(wanted), "{refusal}");
        assert_eq!(scenario.visible(), before);
    }
}

#[test]
fn commands_that_are_gone_undecided_stop_it_and_published_ones_do_not() {
    let mut scenario = Scenario::after(10);
    scenario.instance.crash();
    scenario.produce(5);
    scenario.cluster.borrow_mut().starts.insert(0, 10);
    scenario.start();
    scenario.run(40).unwrap();
    assert_eq!(scenario.committed(), Some(15));

    scenario.instance.crash();
    scenario.produce(5);
    scenario.cluster.borrow_mut().starts.insert(0, 16);
    let refusal = scenario.refusal();
    assert!(refusal.contains("commands were deleted before they were decided"), "{refusal}");
}

#[test]
fn reports_an_unreadable_partition_and_resumes_when_it_is_readable() {
    let mut scenario = Scenario::after(3);
    scenario.cluster.borrow_mut().stalled.insert(0);
    scenario.produce(2);
    // Each step of the intake checks that it is named: see `Instance::step`.
    scenario.run(20).unwrap();
    assert_eq!(scenario.committed(), Some(3));
    let said = scenario.instance.waits_for().unwrap();
    assert!(said.contains("partition 0 is stalled at offset 3") && said.contains("ends at 5"), "{said}");
    scenario.cluster.borrow_mut().stalled.clear();
    scenario.run(40).unwrap();
    assert_eq!(scenario.committed(), Some(5));
    assert_eq!(scenario.instance.waits_for(), None);
}

#[test]
fn another_consumer_that_commits_other_offsets_stops_it() {
    for offset in [3, 12] {
        let mut scenario = Scenario::after(10);
        let before = scenario.visible();
        scenario.visit(offset);
        scenario.produce(5);
        let refusal = scenario.run(40).unwrap_err();
        assert!(refusal.contains(&format!("offset {offset} was not committed by this program")), "{refusal}");
        assert_eq!((scenario.committed(), scenario.visible()), (Some(offset), before));
    }
}

/// The offset that this process recorded when it released the partition proves nothing: another process may have continued
/// since.
#[test]
fn another_consumer_that_commits_the_published_offset_stops_it_too() {
    let mut scenario = Scenario::after(10);
    let before = scenario.visible();
    scenario.visit(10);
    scenario.produce(5);
    let refusal = scenario.run(40).unwrap_err();
    assert!(refusal.contains("offset 10 was not committed by this program"), "{refusal}");
    assert_eq!((scenario.committed(), scenario.visible()), (Some(10), before));
}

/// A loss is accepted for the state at the start, not for what happens while the processor runs.
#[test]
fn an_accepted_loss_counts_once() {
    let mut scenario = Scenario::after(10);
    scenario.instance.crash();
    scenario.produce(10);
    scenario.cluster.borrow_mut().commit_as_other(0, 12);
    scenario.instance.accept = Accept { group_offset: true, ..Accept::default() };
    scenario.start();
    scenario.run(40).unwrap();
    assert_eq!(scenario.committed(), Some(20));
    scenario.visit(15);
    let refusal = scenario.run(40).unwrap_err();
    assert!(refusal.contains("offset 15 was not committed by this program"), "{refusal}");
}

/// Neither a kill nor the processor's own recovery asks again about an accepted loss.
#[test]
fn an_offset_that_was_accepted_is_this_programs_from_then_on() {
    for offset in [4, 10, 16] {
        let mut scenario = Scenario::after(10);
        scenario.instance.crash();
        scenario.cluster.borrow_mut().topic.get_mut(&0).unwrap().extend((0..10).map(|_| None));
        scenario.cluster.borrow_mut().commit_as_other(0, offset);
        scenario.instance.accept = Accept { group_offset: true, ..Accept::default() };
        scenario.start();
        // The partition is held, but nothing is published yet.
        scenario.run_until_held();
        assert!(!scenario.cluster.borrow().foreign.contains(&0));
        scenario.instance.crash();
        scenario.start();
        scenario.run(40).unwrap();
        assert_eq!(scenario.committed(), Some(20));
    }
}

#[test]
fn a_mark_has_the_clock_at_its_offset() {
    let mut scenario = Scenario::after(10);
    let clock_is_exact = |scenario: &Scenario| {
        let cluster = scenario.cluster.borrow();
        let found = cluster.committed_of(0).unwrap();
        assert_eq!(found.mark.unwrap().clock, cluster.clock(0, found.offset), "at {}", found.offset);
    };
    clock_is_exact(&scenario);
    // Records may have an earlier timestamp, or an invalid one.
    for timestamp in [1005, i64::MAX, -1, 1003] {
        scenario.clock = timestamp - i64::from(timestamp < i64::MAX);
        let at = Coordinates { partition: 0, offset: scenario.cluster.borrow().end(0), timestamp };
        let (_, record) = command(&mut scenario.rng, at, false, false);
        scenario.cluster.borrow_mut().topic.get_mut(&0).unwrap().push(Some(record));
        scenario.run(10).unwrap();
        clock_is_exact(&scenario);
    }
    // A log that is ahead of the published offset does not commit its own clock there.
    scenario.clock = 2000;
    scenario.produce(5);
    scenario.append_only();
    scenario.instance.crash();
    scenario.start();
    for _ in 0..40 {
        scenario.run(1).unwrap();
        clock_is_exact(&scenario);
    }
    assert_eq!(scenario.committed(), Some(19));
}

#[test]
fn a_log_that_lost_its_tail_does_not_publish_seen_output_again() {
    let mut scenario = Scenario::after(5);
    scenario.instance.back_up();
    scenario.produce(5);
    scenario.run(40).unwrap();
    let before = scenario.visible();
    scenario.instance.lose_tail(Some(0), false);
    scenario.start();
    while scenario.instance.cursors()[0].logged == 5 {
        for stage in [Stage::Poll, Stage::Decide, Stage::Append] {
            scenario.instance.step(stage).unwrap();
        }
    }
    let cursor = scenario.instance.cursors()[0];
    assert!(cursor.logged < 10 && cursor.seen == Some(10), "{cursor:?}");
    scenario.instance.crash();
    scenario.cluster.borrow_mut().committed.clear();
    scenario.instance.accept = Accept { skip_unpublished: true, ..Accept::default() };
    scenario.start();
    scenario.run(40).unwrap();
    assert_eq!((scenario.committed(), scenario.visible()), (Some(10), before));
}
