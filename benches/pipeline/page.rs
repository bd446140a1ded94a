//! The figures as Markdown.

use std::fmt::Write as _;

use super::{
    results::{Growth, Keys, Latency, Memory, Partitions, ReadModel, Results, Stages, Throughput},
    table::{Table, count, grouped, of_broker, range},
};

/// What stands in docs/performance.md between the marks.
pub fn markdown(results: &Results) -> String {
    let mut text = String::new();
    for line in &results.environment {
        let _ = writeln!(text, "- {line}");
    }
    if results.quick {
        let _ = writeln!(text, "- with `--quick`, so the figures are rough");
    }
    let sections = [
        results.throughput.as_ref().map(throughput),
        results.latency.as_ref().map(latency),
        results.memory.as_ref().map(memory),
        results.partitions.as_ref().map(partitions),
        results.stages.as_ref().map(stages),
        results.growth.as_ref().map(growth),
        results.read_model.as_ref().map(read_model),
        results.keys.as_ref().map(keys),
    ];
    for section in sections.into_iter().flatten() {
        let _ = write!(text, "\n{section}");
    }
    text
}

pub fn throughput(measured: &Throughput) -> String {
    let note = format!(
        "A backlog of {} commands in {} partitions, from the first to the last committed offset. {} rounds; in each, all \
         rows run one after another, in changing order. One uncounted round before them warms up the broker.",
        count(measured.commands),
        measured.partitions,
        measured.rounds,
    );
    let header = [
        "",
        "commands/s, median",
        "lowest to highest",
        "relative to the copy loop, median",
        "lowest to highest",
    ];
    let mut table = Table::new("Throughput", &note, &header);
    for subject in &measured.subjects {
        table.row(&[
            subject.name.clone(),
            grouped(subject.rate.median),
            format!("{} to {}", grouped(subject.rate.lowest), grouped(subject.rate.highest)),
            format!("{:.2}", subject.ratio.median),
            range(subject.ratio, 2),
        ]);
    }
    format!(
        "{}\nPeak memory in these runs, exactly-once with FULL: {:.0} MB.\n\n{}",
        table.0,
        measured.peak_memory,
        cpu(measured)
    )
}

fn cpu(measured: &Throughput) -> String {
    let note = "Medians, by the thread that used it; each command has one notification. \"librdkafka\" is its threads that \
                talk to the broker.";
    let stages = measured.subjects[0].cpu.iter().map(|(stage, _)| stage.as_str());
    let header: Vec<&str> = [""].into_iter().chain(stages).chain(["total", "broker"]).collect();
    let mut table = Table::new("CPU time per command, in µs", note, &header);
    for subject in &measured.subjects {
        let mut row = vec![subject.name.clone()];
        row.extend(subject.cpu.iter().map(|(_, time)| format!("{time:.2}")));
        row.extend([format!("{:.2}", subject.process), of_broker(subject.broker)]);
        table.row(&row);
    }
    table.0
}

pub fn latency(measured: &Latency) -> String {
    let note = "From the moment when the producer has the acknowledgement of its command to the moment when a \
                `read_committed` consumer has the notification. Producer and consumer use the same cores. The copy loop \
                shows how much of it is the broker's and the client's. The last rate is half of the median throughput.";
    let header = ["commands/s", "", "notifications", "p50", "p99", "p99.9", "highest"];
    let mut table = Table::new("Latency, in ms", note, &header);
    let shown = |value: Option<f64>| value.map_or("too few".to_owned(), |value| format!("{value:.1}"));
    for run in &measured.runs {
        let posted = count(run.posted as u64);
        table.row(&[
            grouped(run.rate),
            run.subject.clone(),
            if run.timed == run.posted { posted } else { format!("{} of {posted}", count(run.timed as u64)) },
            shown(run.p50),
            shown(run.p99),
            shown(run.p999),
            shown(run.highest),
        ]);
    }
    table.0
}

pub fn memory(measured: &Memory) -> String {
    let note = format!(
        "Exactly-once with FULL, from its start to the last command (VmHWM); {} runs.",
        measured.runs
    );
    let header = ["commands waiting", "peak, MB, median", "lowest to highest", "commands/s, median"];
    let mut table = Table::new("Memory", &note, &header);
    table.row(&[
        count(measured.backlog),
        format!("{:.0}", measured.peak.median),
        range(measured.peak, 0),
        grouped(measured.rate),
    ]);
    table.0
}

pub fn partitions(measured: &Partitions) -> String {
    let note = format!("{} commands, exactly-once with FULL.", count(measured.commands));
    let header =
        ["partitions", "commands/s", "processor, µs of CPU per command", "broker, µs of CPU per command"];
    let mut table = Table::new("Partitions", &note, &header);
    for run in &measured.runs {
        table.row(&[
            run.partitions.to_string(),
            grouped(run.rate),
            format!("{:.2}", run.process),
            of_broker(run.broker),
        ]);
    }
    table.0
}

pub fn stages(measured: &Stages) -> String {
    let note = format!(
        "Two targets, one of them notified, and an attachment. One thread, without Kafka, batches of {} with FULL; the \
         median of {} rounds of {} commands. A running processor adds librdkafka, the exchange of records with it, the \
         read model, and passing work between threads.",
        count(measured.batch),
        measured.rounds,
        count(measured.commands),
    );
    let header = ["decide", "append", "make the notification", "total"];
    let mut table = Table::new("The processor's own work for a usual command, in µs of CPU", &note, &header);
    let times = [measured.decide, measured.append, measured.notification, measured.total];
    table.row(&times.map(|time| format!("{time:.2}")));
    table.0
}

pub fn growth(measured: &Growth) -> String {
    let note = format!(
        "Batches of {} with FULL, without Kafka: the median of five samples of {} commands, each with the checkpoint that \
         moves them from the -wal file into the log.",
        count(measured.batch),
        count(measured.sample),
    );
    let header = ["events in the log", "append, µs of CPU per command", "lowest to highest", "elapsed µs"];
    let mut table = Table::new("Growth", &note, &header);
    for size in &measured.sizes {
        table.row(&[
            count(size.events),
            format!("{:.2}", size.cost.cpu.median),
            range(size.cost.cpu, 2),
            format!("{:.2}", size.cost.elapsed),
        ]);
    }
    table.0
}

pub fn read_model(measured: &ReadModel) -> String {
    let note = format!(
        "Built in one go, as `log rebuild` does; the table of CPU time has the cost of following a growing log. {} \
         queries for different objects, each a process of its own; the median.",
        measured.queries
    );
    let header = [
        "events in the log",
        "building, µs of CPU per event",
        "`log list --object`, ms",
        "lowest to highest",
    ];
    let mut table = Table::new("Read model", &note, &header);
    table.row(&[
        count(measured.events),
        format!("{:.2}", measured.build),
        format!("{:.1}", measured.query.median),
        range(measured.query, 1),
    ]);
    table.0
}

pub fn keys(measured: &Keys) -> String {
    let note = format!(
        "Measured like growth, in a partition with {} keys alive, which take about {:.0} MB of memory.",
        count(measured.alive),
        measured.memory,
    );
    let header = ["commands with a key", "append, µs of CPU per command", "lowest to highest", "elapsed µs"];
    let mut table = Table::new("Idempotency keys", &note, &header);
    for share in &measured.shares {
        table.row(&[
            share.share.clone(),
            format!("{:.2}", share.cost.cpu.median),
            range(share.cost.cpu, 2),
            format!("{:.2}", share.cost.elapsed),
        ]);
    }
    table.0
}
