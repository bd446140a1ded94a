//! Commands a second and CPU time a command, the processor beside the copy loop.

use super::{
    Profile,
    cpu::STAGES,
    kafka::{Backlog, Kafka},
    report::{Bar, Report, Spread, Table, stacked},
    say,
    subject::{self, Run, Subject},
    support,
};

const PARTITIONS: i32 = 3;
const COUNT: usize = Subject::ALL.len();

/// Returns the rate of exactly-once with FULL.
pub fn measure(kafka: &Kafka, profile: &Profile, report: &mut Report) -> f64 {
    let backlog = Backlog::post(kafka, "throughput", PARTITIONS, profile.commands, support::varied);
    let mut runs: [Vec<Run>; COUNT] = Default::default();
    // The first is not counted: the broker compiles itself while it works, and shares the cores with what is measured.
    for round in 0..=profile.rounds {
        // What runs before another leaves it a busy disk, or a broker that cleans up; so it is not always the same.
        let mut order: Vec<_> = (0..COUNT).map(|place| (place + round) % COUNT).collect();
        if round.is_multiple_of(2) {
            order.reverse();
        }
        for place in order {
            let subject = Subject::ALL[place];
            let run = subject::run(subject, &backlog);
            let which = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
            say!(
                "{which}, {}: {:.0} commands/s, {:.2} µs of CPU a command",
                subject.name(),
                run.rate,
                run.process
            );
            if round > 0 {
                runs[place].push(run);
            }
        }
    }
    let rates = rates(profile, &runs, report);
    cpu(kafka, &runs, report);
    let full = runs[1].iter().map(|run| run.peak_memory).fold(0.0, f64::max);
    report.note(format!(
        "In the runs of the throughput the peak of memory was {full:.0} MB, exactly-once with FULL."
    ));
    rates
}

fn rates(profile: &Profile, runs: &[Vec<Run>; COUNT], report: &mut Report) -> f64 {
    let mut table = Table::new(
        "Throughput",
        &["", "commands/s, median", "lowest to highest", "beside the copy loop, median", "lowest to highest"],
    );
    table.note(format!(
        "A backlog of {} commands in {PARTITIONS} partitions, measured from the first to the last committed offset; {} \
         rounds, in each of which all run one after the other, in a changing order, and are compared. One round before \
         them warms the broker up, and is not counted.",
        profile.commands, profile.rounds
    ));
    let rate = |runs: &[Run]| Spread::of(runs.iter().map(|run| run.rate));
    for (subject, of_subject) in Subject::ALL.into_iter().zip(runs) {
        let spread = rate(of_subject);
        let ratio = Spread::of(of_subject.iter().zip(&runs[0]).map(|(run, copy)| run.rate / copy.rate));
        table.row([
            subject.name().to_owned(),
            format!("{:.0}", spread.median),
            format!("{:.0} to {:.0}", spread.lowest, spread.highest),
            format!("{:.2}", ratio.median),
            format!("{:.2} to {:.2}", ratio.lowest, ratio.highest),
        ]);
        report.plot.rates.push(Bar { name: subject.short_name().to_owned(), spread });
    }
    report.table(table);
    rate(&runs[1]).median
}

fn cpu(kafka: &Kafka, runs: &[Vec<Run>; COUNT], report: &mut Report) {
    let mut header = vec![""];
    header.extend(STAGES);
    header.extend(["together", "the broker"]);
    let mut table = Table::new("CPU time a command, in µs", &header);
    table.note(
        "Medians, by the thread that used it; each command has one notification. librdkafka's are the threads that \
         talk to the broker."
            .to_owned(),
    );
    for (subject, runs) in Subject::ALL.into_iter().zip(runs) {
        let median = |value: &dyn Fn(&Run) -> f64| Spread::of(runs.iter().map(value)).median;
        let of_stage = |stage: &str| {
            median(&|run| run.stages.iter().find(|(name, _)| *name == stage).map_or(0.0, |(_, time)| *time))
        };
        let mut row = vec![subject.name().to_owned()];
        row.extend(STAGES.iter().map(|stage| format!("{:.2}", of_stage(stage))));
        row.push(format!("{:.2}", median(&|run| run.process)));
        let broker = median(&|run| run.broker.unwrap_or(0.0));
        row.push(if kafka.cpu().is_some() { format!("{broker:.2}") } else { "not known".to_owned() });
        table.row(row);
        let parts = STAGES.iter().map(|stage| (*stage, of_stage(stage))).collect();
        report.plot.cpu.push(stacked(subject.short_name(), parts));
    }
    report.table(table);
}
