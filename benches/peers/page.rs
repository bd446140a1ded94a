//! The figures as Markdown.

use std::fmt::Write as _;

use super::{
    results::{Compared, Measured, Results, SubjectFigures},
    spread::Spread,
    subject::{PROMISES, Subject},
    table::{Table, count, grouped, range},
};

/// What stands in docs/performance.md between the marks. Before the first run that is kept, that is who promises what.
pub fn markdown(results: Option<&Results>) -> String {
    let mut text = String::new();
    if let Some(results) = results {
        text.push_str("![Steady rate and CPU time of the peers](peers.svg)\n\n");
        for line in &results.environment {
            let _ = writeln!(text, "- {line}");
        }
        if results.quick {
            let _ = writeln!(text, "- with `--quick`, so the figures are rough");
        }
        let _ = write!(text, "\n{}\n", figures(&results.measured));
    }
    text + &promises()
}

pub fn figures(measured: &Measured) -> String {
    let note = format!(
        "A backlog of {} commands in {} partitions, from the first to the last committed offset; steady is the second half \
         of it. Medians of {} rounds and, in brackets, the lowest to the highest; in each round all run one after another, in \
         rotating order, and ratios are to activity-stream in the same round.",
        count(measured.commands),
        measured.partitions,
        measured.rounds,
    );
    let header = ["", "commands/s", "÷ ours", "steady", "÷ ours"];
    let mut rates = Table::new("Rate", &note, &header);
    let header = ["", "process", "÷ ours", "steady", "÷ ours", "broker", "÷ ours", "peak memory, MB"];
    let note = "Of the process from its start, with all that it started, and of the broker meanwhile.";
    let mut costs = Table::new("CPU time per command, in µs, and memory", note, &header);
    for subject in &measured.subjects {
        let SubjectFigures { name, rate, steady_rate, cpu, steady_cpu, broker, peak_memory, .. } = subject;
        let pair = |it: &Compared, figure: fn(Spread) -> String| [figure(it.value), decimals(it.ratio)];
        let [first, second] = [rate, steady_rate].map(|it| pair(it, whole));
        rates.row(&[std::slice::from_ref(name), &first, &second].concat());
        let [first, second] = [cpu, steady_cpu].map(|it| pair(it, decimals));
        let third = broker
            .as_ref()
            .map_or_else(|| ["unknown", "unknown"].map(str::to_owned), |it| pair(it, decimals));
        costs.row(&[std::slice::from_ref(name), &first, &second, &third, &[whole(*peak_memory)]].concat());
    }
    format!("{}\n{}", rates.0, costs.0)
}

fn whole(spread: Spread) -> String {
    format!("{} ({} to {})", grouped(spread.median), grouped(spread.lowest), grouped(spread.highest))
}

fn decimals(spread: Spread) -> String {
    format!("{:.2} ({})", spread.median, range(spread, 2))
}

fn promises() -> String {
    let note = "The first row is compared before each measurement, on 20,000 commands of all kinds, as far as the others \
                promise it.";
    let header: Vec<&str> = [""].into_iter().chain(Subject::ALL.map(Subject::short_name)).collect();
    let mut table = Table::new("Who promises what", note, &header);
    for (promise, kept) in PROMISES {
        table.row(&[&[promise], &kept[..]].concat());
    }
    table.0
}
