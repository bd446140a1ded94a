//! What an append costs as the log grows, and what the read model costs beside it.

use std::{process::Command, time::Instant};

use event_log::read_model::Follower;

use super::{
    Profile, cpu,
    filled::{Cost, Filled, SAMPLE, batch},
    report::{Report, Spread, Table},
    say, support,
};

/// Objects that are asked for.
const QUERIES: u64 = 20;

pub fn measure(profile: &Profile, report: &mut Report) {
    let mut filled = Filled::new();
    let mut table = Table::new(
        "Growth",
        &["events in the log", "append, µs of CPU a command", "lowest to highest", "µs that passed"],
    );
    table.note(format!(
        "Batches of {} with FULL, without Kafka: the median of five samples of {SAMPLE} commands, each with the \
         checkpoint that writes them from the -wal file into the log.",
        batch()
    ));
    for &size in profile.log_sizes {
        filled.append(size.saturating_sub(filled.len()), 0);
        let events = filled.len();
        let Cost { cpu_us, wall_us } = filled.cost(0);
        say!("{events} events in the log: {:.2} µs of CPU a command", cpu_us.median);
        table.row([
            events.to_string(),
            format!("{:.2}", cpu_us.median),
            format!("{:.2} to {:.2}", cpu_us.lowest, cpu_us.highest),
            format!("{:.2}", wall_us.median),
        ]);
        report.plot.growth.push((events as f64, cpu_us.median));
    }
    report.table(table);
    read_model(&filled, report);
}

fn read_model(filled: &Filled, report: &mut Report) {
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
    let queries = Spread::of(times);
    let header = [
        "events in the log",
        "building it, µs of CPU an event",
        "`log list --object`, ms",
        "shortest to longest",
    ];
    let mut table = Table::new("Read model", &header);
    table.note(format!(
        "Built at once, as `log rebuild` does; what following costs while the log grows is in the table of CPU time. \
         {QUERIES} queries for other objects, each a process of its own; the median."
    ));
    table.row([
        filled.len().to_string(),
        format!("{following:.2}"),
        format!("{:.1}", queries.median),
        format!("{:.1} to {:.1}", queries.lowest, queries.highest),
    ]);
    report.table(table);
}
