//! The most memory that the processor has, while it works off a long backlog as fast as it can.

use super::{
    Profile,
    kafka::{Backlog, Kafka},
    report::{Report, Spread, Table},
    subject::{self, Subject},
    support,
};

const RUNS: usize = 3;

pub fn measure(kafka: &Kafka, profile: &Profile, report: &mut Report) {
    let mut table = Table::new(
        "Memory",
        &["commands waiting", "peak, MB, median", "lowest to highest", "commands/s, median"],
    );
    table.note(format!("Exactly-once with FULL, from its start to the last command (VmHWM); {RUNS} runs."));
    let backlog = Backlog::post(kafka, "memory", 3, profile.backlog, support::varied);
    let runs: Vec<_> = (0..RUNS).map(|_| subject::run(Subject::ExactlyOnceFull, &backlog)).collect();
    let (peak, rate) =
        (Spread::of(runs.iter().map(|run| run.peak_memory)), Spread::of(runs.iter().map(|run| run.rate)));
    table.row([
        profile.backlog.to_string(),
        format!("{:.0}", peak.median),
        format!("{:.0} to {:.0}", peak.lowest, peak.highest),
        format!("{:.0}", rate.median),
    ]);
    report.table(table);
}
