//! Two processes that take over partitions from each other: what each log knows about published output, and what it can't
//! know.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use contract::Coordinates;

use super::{
    cluster::{Cluster, Shared},
    instance::{Instance, files::CursorSeen},
    model::command,
};
use crate::pipeline::Stage;

const PARTITIONS: i32 = 2;
/// Commands in each partition at first.
const FIRST: i64 = 5;

/// A group of two processes, one of which has published everything so far.
struct Pair {
    cluster: Shared,
    a: Instance,
    b: Instance,
    rng: fastrand::Rng,
    directory: tempfile::TempDir,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let cluster = Rc::new(RefCell::new(Cluster::new(seed, PARTITIONS)));
        let directory = tempfile::tempdir().unwrap();
        let instance = |name: &str| Instance::new(name.into(), directory.path(), &cluster, None);
        let (a, b) = (instance("a"), instance("b"));
        let mut pair = Self { cluster, a, b, rng: fastrand::Rng::with_seed(1), directory };
        pair.produce(FIRST);
        pair.a.start().unwrap();
        pair.run_until(|pair| pair.is_published() && pair.a.is_idle());
        pair
    }

    fn produce(&mut self, commands: i64) {
        let mut cluster = self.cluster.borrow_mut();
        for partition in 0..PARTITIONS {
            for _ in 0..commands {
                let offset = cluster.end(partition);
                let at = Coordinates { partition, offset, timestamp: 1000 + offset };
                let (_, record) = command(&mut self.rng, at, false, false);
                cluster.topic.get_mut(&partition).unwrap().push(Some(record));
            }
        }
    }

    /// The message with which one of them stops.
    fn run(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        for _ in 0..500 {
            for stage in Stage::ALL {
                for instance in [&mut self.a, &mut self.b] {
                    instance.step(stage)?;
                    instance.stopped.take().map_or(Ok(()), Err)?;
                }
            }
            if done(self) {
                return Ok(());
            }
        }
        panic!("the condition never holds");
    }

    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        self.run(done).unwrap();
    }

    fn is_published(&self) -> bool {
        self.cluster.borrow().is_published()
    }

    /// One partition each, everything published.
    fn share(&mut self) {
        self.run_until(|pair| {
            let shared = (pair.a.owned().len(), pair.b.owned().len()) == (1, 1);
            let mut cluster = pair.cluster.borrow_mut();
            if !shared && cluster.group.is_settled() {
                cluster.group.call_to_join();
            }
            // Nobody works on an assignment that is not polled yet.
            let shared = shared && cluster.group.is_settled();
            drop(cluster);
            shared && pair.is_published() && pair.a.is_idle() && pair.b.is_idle()
        });
    }

    fn kill_both_and_forget_offsets(&mut self) {
        let mut cluster = self.cluster.borrow_mut();
        for instance in [&mut self.a, &mut self.b] {
            instance.crash();
            instance.dead.drain(..).for_each(|client| cluster.group.leave(client));
        }
        cluster.committed.clear();
    }

    /// The number of outputs that exist more than once.
    fn published_twice(&self) -> usize {
        let mut times: BTreeMap<String, u32> = BTreeMap::new();
        for output in &self.cluster.borrow().visible {
            *times.entry(format!("{output:?}")).or_default() += 1;
        }
        times.into_values().filter(|&times| times > 1).count()
    }
}

fn cursor(instance: &Instance, partition: i32) -> CursorSeen {
    instance.cursors().into_iter().find(|cursor| cursor.partition == partition).unwrap()
}

/// The seed determines who gets which partition.
const SEEDS: std::ops::Range<u64> = 0..20;

#[test]
fn releasing_a_partition_records_its_published_offset() {
    let mut outdated = 0;
    for seed in SEEDS {
        let mut pair = Pair::new(seed);
        let before: Vec<_> = (0..PARTITIONS).map(|partition| cursor(&pair.a, partition).seen).collect();
        pair.b.start().unwrap();
        pair.share();
        let released = pair.b.owned()[0];
        outdated += usize::from(before[released as usize] < Some(FIRST));
        let CursorSeen { seen, clean, .. } = cursor(&pair.a, released);
        assert_eq!((seen, clean), (Some(FIRST), false), "seed {seed}");
    }
    assert_ne!(outdated, 0, "no release had anything to record");
}

/// The record of a clean stop is valid only for partitions that were held when the whole group ended.
#[test]
fn a_clean_stop_does_not_cover_a_partition_that_another_process_holds() {
    for seed in SEEDS {
        let mut pair = Pair::new(seed);
        pair.a.ask_to_stop(true);
        pair.run_until(|pair| !pair.a.is_running());
        assert!((0..PARTITIONS).all(|partition| cursor(&pair.a, partition).clean));
        // The other one continues with both; the first one returns for one of them, and stops cleanly.
        pair.b.start().unwrap();
        pair.produce(3);
        pair.run_until(Pair::is_published);
        pair.a.start().unwrap();
        pair.share();
        let (mine, others) = (pair.a.owned()[0], pair.b.owned()[0]);
        pair.a.ask_to_stop(true);
        for stage in Stage::ALL {
            pair.a.step(stage).unwrap();
        }
        assert!(!pair.a.is_running());
        assert_eq!(
            (cursor(&pair.a, mine).clean, cursor(&pair.a, others).clean),
            (true, false),
            "seed {seed}"
        );

        pair.kill_both_and_forget_offsets();
        pair.a.start().unwrap();
        let refusal = pair.run(|_| false).unwrap_err();
        let says =
            |of: i32| refusal.contains(&format!("partition {of}: the group's committed offset is absent"));
        assert!(says(others) && !says(mine), "seed {seed}: {refusal}");
        assert_eq!(pair.published_twice(), 0);
    }
}

/// A known limit, stated in docs/guarantees.md: a log does not know what another process published after its clean stop.
#[test]
fn output_of_another_process_after_a_clean_stop_is_published_twice_if_kafka_forgets_the_offsets() {
    let mut pair = Pair::new(1);
    pair.a.ask_to_stop(true);
    pair.run_until(|pair| !pair.a.is_running());
    pair.b.start().unwrap();
    pair.produce(8);
    pair.run_until(|pair| pair.is_published() && pair.b.is_idle());
    assert_eq!(pair.published_twice(), 0);
    pair.kill_both_and_forget_offsets();
    pair.a.start().unwrap();
    pair.run_until(Pair::is_published);
    assert_ne!(pair.published_twice(), 0);
}

/// As docs/operations.md describes it: a new instance begins with a copy of the log.
#[test]
fn a_clean_stop_does_not_cover_a_copy_of_the_log() {
    let mut pair = Pair::new(1);
    pair.a.ask_to_stop(true);
    pair.run_until(|pair| !pair.a.is_running());
    pair.b = pair.a.copied("copy".into(), pair.directory.path());
    pair.b.forget_identity();
    pair.a.start().unwrap();
    pair.produce(8);
    pair.run_until(|pair| pair.is_published() && pair.a.is_idle());
    pair.kill_both_and_forget_offsets();
    pair.b.start().unwrap();
    let refusal = pair.run(|_| false).unwrap_err();
    assert!(refusal.contains("the group's committed offset is absent"), "{refusal}");
    assert_eq!(pair.published_twice(), 0);
}

/// A known limit, stated in docs/guarantees.md.
#[test]
fn a_new_log_publishes_everything_again_if_kafka_forgets_the_offsets() {
    let mut pair = Pair::new(1);
    let before = pair.cluster.borrow().visible.len();
    pair.kill_both_and_forget_offsets();
    pair.b.start().unwrap();
    pair.run_until(Pair::is_published);
    assert_eq!((pair.published_twice(), pair.cluster.borrow().visible.len()), (before, 2 * before));
}
