//! Three instances are restarted one after the other.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    PARTITIONS,
    kafka::{Backlog, Kafka},
    running::Running,
    said::{self, ASSIGNED},
    say, start,
    steady::Steady,
    support, wait_until,
};

const INSTANCES: usize = 3;
/// Commands that are published before the first restart.
const HISTORY: u64 = 10_000;
/// For the group to come to rest after a restart.
const PAUSE: Duration = Duration::from_secs(10);

/// The name of a membership, whether each instance has an id of its own in the group, and further properties.
const ROWS: [(&str, bool, &[&str]); 4] = [
    ("default", false, &[]),
    ("static", true, &[]),
    ("new", false, &["group.protocol=consumer"]),
    ("new, static", true, &["group.protocol=consumer"]),
];

pub fn measure(kafka: &Kafka, rate: u32) {
    say!(
        "\n| {INSTANCES} instances restarted, {rate} commands a second | partitions moved | longest without any notification, \
         ms | of one partition, ms |"
    );
    say!("| --- | --- | --- | --- |");
    for (name, is_static, properties) in ROWS {
        let (moved, gaps) = restarted(kafka, rate, is_static, properties);
        let [all, one] = gaps.map(|gap| gap.as_millis());
        say!("| {name} | {moved} | {all} | {one} |");
    }
}

/// How often a partition moved, and the longest time without a notification: of any partition, and of one.
fn restarted(kafka: &Kafka, rate: u32, is_static: bool, properties: &[&str]) -> (usize, [Duration; 2]) {
    let backlog = Backlog::post(kafka, "restart", PARTITIONS, HISTORY, support::usual);
    let names = backlog.names("restart");
    let mut instances: Vec<Running> = (0..INSTANCES)
        .map(|index| {
            let id = format!("group.instance.id=instance-{index}");
            let id = is_static.then_some(id.as_str());
            start(kafka, &names, "all", &properties.iter().copied().chain(id).collect::<Vec<_>>())
        })
        .collect();
    instances[0].await_committed(HISTORY);
    wait_until("all to have partitions", || {
        let owners = assigned(&instances).1;
        (0..INSTANCES).all(|index| owners.contains(&Some(index)))
    });
    let steady = Steady::post(&kafka.servers, &names, rate);
    thread::sleep(PAUSE);
    let (before, begun) = (assigned(&instances).0, Instant::now());
    let assignments = |instance: &Running| instance.said().matches(ASSIGNED).count();
    for instance in &mut instances {
        let had = assignments(instance);
        instance.restart();
        wait_until("the restarted one to have partitions", || assignments(instance) > had);
        thread::sleep(PAUSE);
    }
    let window = begun..Instant::now();
    let moved = assigned(&instances).0 - before;
    let times = steady.end();
    let of_each = (0..PARTITIONS).map(|partition| times.gap(&window, |of| of == partition));
    let gaps = [times.gap(&window, |_| true), of_each.max().expect("some")];
    let first = instances.swap_remove(0);
    drop(instances);
    first.stop();
    (moved, gaps)
}

/// How often a partition was assigned to another instance than the one before, and by partition the instance that has it,
/// as their lines say.
fn assigned(instances: &[Running]) -> (usize, [Option<usize>; PARTITIONS as usize]) {
    let said: Vec<String> = instances.iter().map(Running::said).collect();
    let lines = said.iter().enumerate().flat_map(|(index, said)| said.lines().map(move |line| (line, index)));
    let mut lines: Vec<_> = lines.filter(|(line, _)| line.contains(ASSIGNED)).collect();
    // Each begins with its time.
    lines.sort_unstable();
    let (mut moved, mut owners) = (0, [None; PARTITIONS as usize]);
    for (line, index) in lines {
        for partition in said::partitions(line) {
            let before = owners[partition as usize].replace(index);
            moved += usize::from(before.is_some_and(|before| before != index));
        }
    }
    (moved, owners)
}
