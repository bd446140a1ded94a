//! The cost of an append as the log grows, and of the read model.

use std::{process::Command, time::Instant};

use event_log::read_model::Follower;

use super::{
    Profile, cpu,
    filled::{Filled, Keyed, SAMPLE, batch},
    results::{Growth, GrowthSize, ReadModel, Spread},
    say, support,
};

/// Objects that are asked for.
const QUERIES: u64 = 20;

pub fn measure(profile: &Profile) -> (Growth, ReadModel) {
    let mut filled = Filled::new();
    let sizes = profile.log_sizes.iter().map(|&size| {
        filled.append(size.saturating_sub(filled.len()), &Keyed::None);
        let (events, cost) = (filled.len(), filled.cost(&Keyed::None));
        say!("{events} events in the log: {:.2} µs of CPU a command", cost.cpu.median);
        GrowthSize { events, cost }
    });
    let growth = Growth { batch: batch(), sample: SAMPLE, sizes: sizes.collect() };
    (growth, read_model(&filled))
}

fn read_model(filled: &Filled) -> ReadModel {
    let path = &filled.path;
    let reader = filled.log.reader().expect("a reader");
    let mut follower = Follower::open(reader, path).expect("a read model");
    let before = cpu::of_this_thread();
    while follower.advance(true).expect("it follows").lag() > 0 {}
    let following = (cpu::of_this_thread() - before).as_secs_f64() * 1e6 / filled.len() as f64;
    let times = (0..QUERIES).map(|number| {
        let object = support::varied(number * filled.len() / QUERIES).key;
        let mut list = Command::new(env!("CARGO_BIN_EXE_activity-stream"));
        list.args(["log", "list", "--json", "--object", &object, "--log-file"]).arg(path);
        let begun = Instant::now();
        let output = list.output().expect("the program runs");
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let found = String::from_utf8_lossy(&output.stdout).matches("objectId").count();
        assert!(output.status.success() && found > 0, "log list --object {object}: {output:?}");
        took
    });
    ReadModel { events: filled.len(), build: following, queries: QUERIES, query: Spread::of(times) }
}
