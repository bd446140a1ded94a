//! Measures the processor against a real Kafka, in one command.
//!
//! ```sh
//! cargo bench --bench pipeline                    # everything
//! cargo bench --bench pipeline -- --quick         # some minutes, for a first look
//! cargo bench --bench pipeline -- --only latency
//! cargo bench --bench pipeline -- --save          # keeps the figures, for docs/performance.md
//! ```
//!
//! It starts a Kafka of its own, as the tests do, or uses the one that `KAFKA_BOOTSTRAP_SERVERS` names. Nothing here
//! asserts a time.
//!
//! - `throughput`, `latency`, `memory`, `partitions`: the program beside the broker. `log`: growth and the read model;
//!   `keys`: idempotency keys; both on a log that is filled here, without Kafka.
//! - `copy_loop`: what the processor is compared with. `stages`: its own work, in one thread without Kafka; for a profiler
//!   too.
//! - `kafka`, `subject`, `running`, `cpu`: the broker, the process that is measured, and what it used. `machine`: what it
//!   ran on.
//! - `results`: the figures as data. `page`, `plot`: Markdown and a picture made from them; `tests/pages` uses these too.

#![allow(missing_debug_implementations, reason = "clients of librdkafka have none")]

mod copy_loop;
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod cpu;
mod filled;
mod kafka;
mod keys;
mod latency;
mod log;
mod machine;
mod memory;
mod page;
mod partitions;
mod plot;
mod results;
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod running;
mod stages;
mod subject;
mod throughput;

#[path = "../support/moments.rs"]
mod moments;
#[path = "../support/picture.rs"]
mod picture;
#[path = "../support/spread.rs"]
mod spread;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/table.rs"]
mod table;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/kafka/broker.rs"]
mod broker;
#[path = "../../tests/kafka/distribution.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod distribution;
#[path = "../../tests/kafka/fetched.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod fetched;
#[path = "../../tests/kafka/guard.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod guard;
#[path = "../../tests/kafka/progress.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod progress;
#[path = "../../tests/kafka/topics.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod topics;
#[path = "../../tests/kafka/waiting.rs"]
mod waiting;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Parser, ValueEnum};
use kafka::Kafka;

use results::Results;
use waiting::{holds_within, say, wait_for, wait_until};

/// Measures the processor against a real Kafka, and writes figures, tables and a picture
#[derive(Debug, Parser)]
#[command(name = "pipeline")]
struct Args {
    /// Fewer commands: done in minutes, and less to rely on
    #[arg(long)]
    quick: bool,
    /// Only these parts, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Commands that one run of the throughput consumes [default: 1000000; quick: 100000]
    #[arg(long)]
    commands: Option<u64>,
    /// Commands that wait when the peak of memory is measured [default: 5000000; quick: 200000]
    #[arg(long)]
    backlog: Option<u64>,
    /// Commands a second of the last runs of the latency [default: half of the throughput, or 20000]
    #[arg(long)]
    rate: Option<f64>,
    /// Where they are written
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/../performance"))]
    into: PathBuf,
    /// Keep the figures in benches/pipeline/results.json as well, from which docs/performance.md is made: all of them
    #[arg(long, conflicts_with_all = ["quick", "only", "commands", "backlog", "rate"])]
    save: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Throughput,
    Latency,
    Memory,
    Partitions,
    Stages,
    Log,
    Keys,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// Commands that one run consumes.
    commands: u64,
    /// Rounds, each of which runs everything that is compared.
    rounds: usize,
    /// Seconds of each rate of the latency.
    latency_seconds: u64,
    backlog: u64,
    /// Commands of each run with another number of partitions.
    partition_commands: u64,
    /// Commands of each round of the stages.
    stage_commands: u64,
    /// Events in the log at which an append is measured.
    log_sizes: &'static [u64],
    /// Keys alive.
    keys: u64,
}

impl Profile {
    fn of(args: &Args) -> Self {
        let full = Self {
            commands: 1_000_000,
            rounds: 5,
            latency_seconds: 100,
            backlog: 5_000_000,
            partition_commands: 500_000,
            stage_commands: 500_000,
            log_sizes: &[100_000, 1_000_000, 10_000_000],
            keys: 10_000_000,
        };
        let quick = Self {
            commands: 100_000,
            rounds: 3,
            latency_seconds: 10,
            backlog: 200_000,
            partition_commands: 50_000,
            stage_commands: 100_000,
            log_sizes: &[100_000, 300_000],
            keys: 200_000,
        };
        let profile = if args.quick { quick } else { full };
        Self {
            commands: args.commands.unwrap_or(profile.commands),
            backlog: args.backlog.unwrap_or(profile.backlog),
            ..profile
        }
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("copy-loop") => return copy_loop::run(words),
        Some("stages") => return stages::run(words),
        Some("keys") => return keys::run(words),
        _ => {}
    }
    let args = Args::parse();
    let profile = Profile::of(&args);
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let mut results = Results { quick: args.quick, ..Results::default() };
    let mut version = String::new();
    if [Part::Throughput, Part::Latency, Part::Memory, Part::Partitions].into_iter().any(wanted) {
        let kafka = Kafka::start();
        version = kafka.version();
        if wanted(Part::Throughput) {
            results.throughput = Some(shown(throughput::measure(&kafka, &profile), page::throughput));
        }
        if wanted(Part::Latency) {
            let half = results.throughput.as_ref().map(|measured| measured.subjects[1].rate.median / 2.0);
            let rate = args.rate.or(half).unwrap_or(20_000.0).round();
            results.latency = Some(shown(latency::measure(&kafka, &profile, rate), page::latency));
        }
        if wanted(Part::Memory) {
            results.memory = Some(shown(memory::measure(&kafka, &profile), page::memory));
        }
        if wanted(Part::Partitions) {
            results.partitions = Some(shown(partitions::measure(&kafka, &profile), page::partitions));
        }
    }
    if wanted(Part::Stages) {
        results.stages = Some(shown(stages::measure(&profile), page::stages));
    }
    if wanted(Part::Log) {
        let (growth, read_model) = log::measure(&profile);
        results.growth = Some(shown(growth, page::growth));
        results.read_model = Some(shown(read_model, page::read_model));
    }
    if wanted(Part::Keys) {
        results.keys = Some(shown(keys::measure(&profile), page::keys));
    }
    results.environment = machine::describe(&version);
    write(&results, &args.into);
    if args.save {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/pipeline/results.json");
        fs::write(file, json(&results)).expect("the figures");
        say!(
            "benches/pipeline/results.json has the figures; PAGES_UPDATE=1 cargo test --test pages puts them into docs/"
        );
    }
}

/// Says what was measured as soon as it is known.
fn shown<T>(measured: T, table: impl FnOnce(&T) -> String) -> T {
    say!("\n{}", table(&measured));
    measured
}

fn json(results: &Results) -> String {
    serde_json::to_string_pretty(results).expect("JSON") + "\n"
}

fn write(results: &Results, folder: &Path) {
    fs::create_dir_all(folder).expect("the folder of the results");
    let page =
        format!("# Performance\n\n{}\n![Plots of the tables](performance.svg)\n", page::markdown(results));
    for (name, text) in
        [("results.json", json(results)), ("performance.md", page), ("performance.svg", plot::svg(results))]
    {
        fs::write(folder.join(name), text).expect("a file of the results");
    }
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    say!("written: results.json, performance.md and performance.svg in {}", folder.display());
}
