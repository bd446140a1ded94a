//! Faults that section 2 of the design stops at, or goes on from, one by one: what a schedule can't draw,
//! because there a refusal is a failure.

use std::{cell::RefCell, rc::Rc};

use super::{
    cluster::{Cluster, Shared},
    instance::{Instance, Stage},
    model::command,
};
use crate::activity::Coordinates;

/// One instance and one partition.
struct Scenario {
    cluster: Shared,
    instance: Instance,
    rng: fastrand::Rng,
    clock: i64,
    _directory: tempfile::TempDir,
}

impl Scenario {
    /// An instance that has published so many commands.
    fn after(commands: usize) -> Self {
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

    fn produce(&mut self, commands: usize) {
        let mut cluster = self.cluster.borrow_mut();
        for _ in 0..commands {
            self.clock += 1;
            let at = Coordinates { partition: 0, offset: cluster.end(0), timestamp: self.clock };
            let (_, record) = command(&mut self.rng, at, false, false);
            cluster.topic.get_mut(&0).unwrap().push(Some(record));
        }
    }

    fn start(&mut self) {
        let mut cluster = self.cluster.borrow_mut();
        self.instance.dead.drain(..).for_each(|client| cluster.group.leave(client));
        drop(cluster);
        self.instance.start().unwrap();
    }

    fn run(&mut self, rounds: usize) -> Result<(), String> {
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

    fn committed(&self) -> Option<i64> {
        self.cluster.borrow().committed.get(&0).copied()
    }

    /// Starts and runs; what it says where it stops.
    fn refusal(&mut self) -> String {
        self.start();
        self.run(40).unwrap_err()
    }

    fn visible(&self) -> usize {
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
fn a_topic_that_was_made_again_stops_it() {
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
fn a_partition_that_cannot_be_read_is_named_and_goes_on_when_it_can() {
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
