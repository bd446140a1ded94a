//! Measures the processor beside programs that do the core of its work with other clients, in one command.
//!
//! ```sh
//! cargo bench --bench peers                    # everything
//! cargo bench --bench peers -- --quick         # fewer commands, for a first look
//! cargo bench --bench peers -- --only java
//! cargo bench --bench peers -- --check         # compares their output, and measures nothing
//! cargo bench --bench peers -- --save          # keeps the figures, for docs/performance.md
//! ```
//!
//! The peers lie beside this file. They are built by their own package managers into the target folder; one whose tools are
//! not installed is left out. One whose output differs from the processor's is reported, and not measured.
//!
//! - `subject`: what is compared, and who promises what. `programs`: how the peers are built and started.
//! - `mix`, `outcome`, `check`: commands of all kinds, what became of them, and whether that is the same.
//! - `measure`: rounds in rotating order. `results`, `page`, `plot`: the figures as data, Markdown and a picture;
//!   `tests/pages` uses these too.

#![allow(missing_debug_implementations, reason = "clients of librdkafka have none")]

mod check;
mod measure;
mod mix;
mod outcome;
mod page;
mod plot;
mod programs;
mod results;
mod subject;

#[allow(dead_code, reason = "the other benchmark uses more of it")]
#[path = "../pipeline/cpu.rs"]
mod cpu;
#[allow(dead_code, reason = "the other benchmark uses more of it")]
#[path = "../pipeline/kafka.rs"]
mod kafka;
#[path = "../pipeline/machine.rs"]
mod machine;
#[allow(dead_code, reason = "the other benchmark uses more of it")]
#[path = "../pipeline/running.rs"]
mod running;

#[allow(dead_code, reason = "the other benchmark uses more of it")]
#[path = "../support/picture.rs"]
mod picture;
#[path = "../support/spread.rs"]
mod spread;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the other benchmark uses more of it")]
#[path = "../support/table.rs"]
mod table;

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
#[path = "../../tests/kafka/topics.rs"]
mod topics;
#[path = "../../tests/kafka/waiting.rs"]
mod waiting;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;

use kafka::Kafka;
use programs::Program;
use results::Results;
use subject::Subject;
use waiting::{holds_within, say, wait_for, wait_until};

/// Measures the processor beside its peers, and writes figures, tables and a picture
#[derive(Debug, Parser)]
#[command(name = "peers")]
struct Args {
    /// Fewer commands and rounds, and less to rely on
    #[arg(long)]
    quick: bool,
    /// Only these peers, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<Subject>,
    /// Only compare their output
    #[arg(long, conflicts_with_all = ["quick", "commands", "rounds", "save"])]
    check: bool,
    /// Commands that one run consumes [default: 1000000; quick: 200000]
    #[arg(long)]
    commands: Option<u64>,
    /// Rounds, each of which runs all of them [default: 3; quick: 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// Where they are written
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/../peers"))]
    into: PathBuf,
    /// Keep the figures in benches/peers/results.json as well, from which docs/performance.md is made: all of them
    #[arg(long, conflicts_with = "only")]
    save: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let commands = args.commands.unwrap_or(if args.quick { 200_000 } else { 1_000_000 });
    let rounds = args.rounds.unwrap_or(if args.quick { 2 } else { 3 });
    let wanted = |subject: &Subject| args.only.is_empty() || args.only.contains(subject);
    let own = Program::own();
    let peers: Vec<Program> = Subject::PEERS
        .into_iter()
        .filter(wanted)
        .filter_map(|subject| {
            let built = Program::build(subject);
            built.map_err(|reason| say!("left out: {}: {reason}", subject.name())).ok()
        })
        .collect();
    let kafka = Kafka::start();
    let peers = check::alike(&kafka, &own, peers);
    if args.check {
        return;
    }
    let mut environment = machine::describe(&kafka.version());
    environment.extend(programs::versions(&peers));
    let programs: Vec<Program> = [own].into_iter().chain(peers).collect();
    let results = Results {
        environment,
        quick: args.quick,
        measured: measure::measure(&kafka, &programs, commands, rounds),
    };
    say!("\n{}", page::figures(&results.measured));
    write(&results, &args.into);
    if args.save {
        assert_eq!(programs.len(), Subject::ALL.len(), "only a run with all peers is kept");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/results.json");
        fs::write(file, json(&results)).expect("the figures");
        say!(
            "benches/peers/results.json has the figures; PAGES_UPDATE=1 cargo test --test pages puts them into docs/"
        );
    }
}

fn json(results: &Results) -> String {
    serde_json::to_string_pretty(results).expect("JSON") + "\n"
}

fn write(results: &Results, folder: &Path) {
    fs::create_dir_all(folder).expect("the folder of the results");
    let page = format!("# Peers\n\n{}", page::markdown(Some(results)));
    for (name, text) in
        [("results.json", json(results)), ("peers.md", page), ("peers.svg", plot::svg(&results.measured))]
    {
        fs::write(folder.join(name), text).expect("a file of the results");
    }
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    say!("written: results.json, peers.md and peers.svg in {}", folder.display());
}
