//! How soon another instance publishes what a killed one can't, what a group notices when its instances are restarted one after
//! the other, what following the others costs, and what a group notices of an instance that joins it with an empty log. The
//! figures of docs/scaling.md.
//!
//! ```sh
//! cargo bench --bench takeover                              # some minutes
//! cargo bench --bench takeover -- --histories 10000000      # commands that are published before the kill
//! ```
//!
//! It starts a Kafka of its own, as the tests do, or uses the one that `KAFKA_BOOTSTRAP_SERVERS` names. Nothing here
//! asserts a time.

#![allow(missing_debug_implementations, reason = "clients of librdkafka have none")]

#[allow(dead_code, reason = "the other benchmarks use more of it")]
#[path = "../pipeline/cpu.rs"]
mod cpu;
#[allow(dead_code, reason = "the other benchmarks use more of it")]
#[path = "../pipeline/kafka.rs"]
mod kafka;
mod restart;
#[allow(dead_code, reason = "the other benchmarks use more of it")]
#[path = "../pipeline/running.rs"]
mod running;
mod steady;

#[path = "../support/moments.rs"]
mod moments;
#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/kafka/broker.rs"]
mod broker;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/kafka/distribution.rs"]
mod distribution;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/kafka/fetched.rs"]
mod fetched;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/kafka/guard.rs"]
mod guard;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/kafka/progress.rs"]
mod progress;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/kafka/said.rs"]
mod said;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/kafka/topics.rs"]
mod topics;
#[path = "../../tests/kafka/waiting.rs"]
mod waiting;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use kafka::{Backlog, Kafka};
use nix::{
    sys::signal::{Signal, kill as send},
    unistd::Pid,
};
use progress::Progress;
use running::Running;
use rusqlite::{Connection, OpenFlags};
use said::{ASSIGNED, JOINS};
use steady::Steady;
use topics::Names;
use waiting::{holds_within, say, wait_for, wait_until};

const PARTITIONS: i32 = 6;
/// Between two looks at what is published.
const LOOK: Duration = Duration::from_millis(20);
/// A partition that stands still for this long after a kill was the killed instance's. A session takes 10 s to end.
const STILL: Duration = Duration::from_secs(3);
/// How long a group is watched before and after an instance joins it.
const WATCHED: Duration = Duration::from_secs(20);

/// Measures what it takes to take over
#[derive(Debug, Parser)]
#[command(name = "takeover")]
struct Args {
    /// Commands that are published before the kill
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
    histories: Vec<u64>,
    /// Commands a second, while instances are killed and started
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Commands that an instance with an empty log has to read before it joins, and that two instances share
    #[arg(long, default_value_t = 1_000_000)]
    commands: u64,
    /// Only these parts, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "kill,restart,cost,join")]
    only: Vec<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// `log.partitions`, and whether the kill comes in the middle of a transaction or at any time.
const KILLS: [(&str, bool); 3] = [("all", false), ("all", true), ("owned", false)];
/// How many instances share a backlog, and what their logs have.
const ROWS: [(usize, &str); 4] = [(1, "owned"), (1, "all"), (2, "owned"), (2, "all")];
const ROUNDS: usize = 3;

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let args = Args::parse();
    let kafka = Kafka::start();
    let wanted = |part: &str| args.only.iter().any(|only| only == part);
    if wanted("kill") {
        say!(
            "\n| commands before the kill | `all`: the first, the last partition | `all`, in the middle of a transaction | \
             `owned`: the first, the last | commands that its log lacked |"
        );
        say!("| --- | --- | --- | --- | --- |");
        for &history in &args.histories {
            let [all, open, owned] = KILLS.map(|kind| kill(&kafka, kind, history, args.rate));
            let [first, second, third] = [&all, &open, &owned].map(|(after, _)| shown(after));
            say!("| {history} | {first} | {second} | {third} | {} |", owned.1);
        }
    }
    if wanted("restart") {
        restart::measure(&kafka, args.rate);
    }
    if wanted("cost") {
        say!(
            "\n| {ROUNDS} rounds with a backlog of {}, medians | commands/s | µs of CPU a command, all instances | peak memory \
             of one, MB |",
            args.commands
        );
        say!("| --- | --- | --- | --- |");
        let mut measured = [(); 4].map(|()| Vec::new());
        for _ in 0..ROUNDS {
            for (row, (instances, mode)) in ROWS.into_iter().enumerate() {
                measured[row].push(cost(&kafka, instances, mode, args.commands));
            }
        }
        for ((instances, mode), costs) in ROWS.into_iter().zip(&measured) {
            let [rate, cpu, peak] = [0, 1, 2].map(|column| median(costs.iter().map(|cost| cost[column])));
            let instances = if instances == 1 { "one instance" } else { "two instances" };
            say!("| {instances}, `{mode}` | {rate:.0} | {cpu:.2} | {peak:.0} |");
        }
    }
    if wanted("join") {
        join(&kafka, args.commands, args.rate);
    }
}

fn shown(after: &[Duration]) -> String {
    let seconds = |after: Option<&Duration>| after.map_or(0.0, Duration::as_secs_f64);
    format!("{:.1} s, {:.1} s", seconds(after.first()), seconds(after.last()))
}

/// An instance of the group, with a log of its own and these client properties.
fn start(kafka: &Kafka, names: &Names, mode: &str, properties: &[&str]) -> Running {
    let command = |names: &Names, folder: &Path| {
        let Names { commands, notifications, rejections, group } = names;
        let text = format!(
            "[kafka]\nbootstrap_servers = \"{}\"\ngroup = \"{group}\"\n[topics]\ncommands = \"{commands}\"\n\
             notifications = \"{notifications}\"\nrejections = \"{rejections}\"\n[log]\npartitions = \"{mode}\"\n",
            kafka.servers
        );
        let config = folder.join("config.toml");
        fs::write(&config, text).expect("the configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_activity-stream"));
        command.arg("run").arg("--config").arg(config).arg("--log-file").arg(log(folder));
        command.args(properties.iter().flat_map(|property| ["-X", property]));
        command
    };
    Running::start(command, &kafka.servers, names.clone(), PARTITIONS)
}

fn signal(instance: &Running, signal: Signal) {
    send(Pid::from_raw(instance.id() as i32), signal).expect("it runs");
}

fn log(folder: &Path) -> PathBuf {
    folder.join("activity.db")
}

/// By partition, the next offset that the log of this instance lacks.
fn logged(instance: &Running) -> BTreeMap<i32, i64> {
    let read = || -> rusqlite::Result<BTreeMap<i32, i64>> {
        let log = Connection::open_with_flags(log(instance.folder()), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut cursors = log.prepare("SELECT partition, logged FROM cursors")?;
        cursors.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    // There is none yet.
    read().unwrap_or_default()
}

/// When it was frozen in the middle of a transaction.
fn freeze_in_transaction(instance: &Running, progress: &Progress) -> Instant {
    loop {
        signal(instance, Signal::SIGSTOP);
        let frozen = Instant::now();
        if progress.has_open_transaction() {
            return frozen;
        }
        signal(instance, Signal::SIGCONT);
        thread::sleep(LOOK);
    }
}

/// Kills one of two instances, and measures from the kill until each of its partitions has something published by the other.
/// And how many commands of these the other's log lacked.
fn kill(
    kafka: &Kafka,
    (mode, in_transaction): (&str, bool),
    history: u64,
    rate: u32,
) -> (Vec<Duration>, i64) {
    let backlog = Backlog::post(kafka, "takeover", PARTITIONS, history, support::usual);
    let names = backlog.names("takeover");
    let [mut killed, other] = [(); 2].map(|()| start(kafka, &names, mode, &[]));
    let progress = Progress::new(&kafka.servers, &names, PARTITIONS);
    killed.await_committed(history);
    wait_until("both to have partitions, and all that they should", || {
        let published = progress.committed_now();
        let has_all = |log: BTreeMap<i32, i64>| published.iter().all(|(p, next)| log.get(p) >= Some(next));
        let both = [logged(&killed), logged(&other)];
        if mode == "all" { both.into_iter().all(has_all) } else { both.iter().all(|log| !log.is_empty()) }
    });
    let steady = Steady::post(&kafka.servers, &names, rate);
    thread::sleep(Duration::from_secs(5));
    let has = logged(&other);
    let begun = if in_transaction { freeze_in_transaction(&killed, &progress) } else { Instant::now() };
    drop(killed);
    thread::sleep(Duration::from_millis(500));
    let before = progress.committed_now();
    thread::sleep(STILL);
    let after = progress.committed_now();
    let mut waiting: Vec<i32> = before.keys().copied().filter(|p| after[p] == before[p]).collect();
    let lacks = waiting.iter().map(|p| before[p] - has.get(p).copied().unwrap_or(0)).sum();
    let mut moved = Vec::new();
    while !waiting.is_empty() {
        thread::sleep(LOOK);
        let now = progress.committed_now();
        waiting.retain(|partition| {
            let moves = now[partition] > before[partition];
            moved.extend(moves.then(|| begun.elapsed()));
            !moves
        });
    }
    drop(steady);
    other.stop();
    (moved, lacks)
}

/// The rate at which a group gets through a backlog, the CPU time that all instances need until each has all that it should,
/// and the peak memory of the largest.
fn cost(kafka: &Kafka, instances: usize, mode: &str, commands: u64) -> [f64; 3] {
    let backlog = Backlog::post(kafka, "cost", PARTITIONS, commands, support::usual);
    let names = backlog.names("cost");
    let mut instances: Vec<Running> = (0..instances).map(|_| start(kafka, &names, mode, &[])).collect();
    instances[0].await_committed(1);
    let begun = Instant::now();
    instances[0].await_committed(commands);
    let took = begun.elapsed();
    if mode == "all" {
        wait_until("each log to be complete", || {
            instances.iter().all(|instance| logged(instance).values().sum::<i64>() == commands as i64)
        });
    }
    let cpu: Duration = instances.iter().map(|instance| cpu::total(instance.id())).sum();
    let peak = instances.iter().map(|instance| cpu::peak_memory(instance.id())).fold(0.0, f64::max);
    let first = instances.swap_remove(0);
    drop(instances);
    first.stop();
    [commands as f64 / took.as_secs_f64(), cpu.as_secs_f64() * 1e6 / commands as f64, peak]
}

/// A third instance with an empty log joins two that work, once it has read the history.
fn join(kafka: &Kafka, history: u64, rate: u32) {
    let backlog = Backlog::post(kafka, "join", PARTITIONS, history, support::usual);
    let names = backlog.names("join");
    let mut both = [(); 2].map(|()| start(kafka, &names, "all", &[]));
    both[0].await_committed(history);
    let steady = Steady::post(&kafka.servers, &names, rate);
    thread::sleep(Duration::from_secs(5));
    let before = Instant::now();
    thread::sleep(WATCHED);
    let started = Instant::now();
    let third = start(kafka, &names, "all", &[]);
    let says = |what: &str| {
        let is_said = holds_within(Duration::from_secs(600), || third.said().contains(what));
        assert!(is_said, "the third does not say '{what}': {}", third.said());
        Instant::now()
    };
    let joins = says(JOINS);
    says(ASSIGNED);
    thread::sleep(WATCHED);
    let ended = Instant::now();
    let times = steady.end();
    say!(
        "\n| {history} commands before, {rate} a second | seconds | p50, ms | p99, ms | longest without any notification, ms |"
    );
    say!("| --- | --- | --- | --- | --- |");
    for (name, window) in [
        ("two instances", before..started),
        ("the third reads the history", started..joins),
        ("it joins, and after that", joins..ended),
    ] {
        let seconds = (window.end - window.start).as_secs_f64();
        let [p50, p99, gap] = times.within(&window).map(|time| time.as_secs_f64() * 1e3);
        say!("| {name} | {seconds:.1} | {p50:.1} | {p99:.1} | {gap:.0} |");
    }
    drop(third);
    let [first, second] = both;
    drop(second);
    first.stop();
}
