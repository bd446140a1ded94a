//! The most memory that the processor has, while it works off a long backlog as fast as it can.

use super::{
    Profile,
    kafka::{Backlog, Kafka},
    report::{Report, Table},
    subject::{self, Subject},
    support,
};

pub fn measure(kafka: &Kafka, profile: &Profile, report: &mut Report) {
    let mut table =
        Table::new("Memory", &["commands waiting", "commands/s", "processor, µs a command", "peak, MiB"]);
    table.note("Exactly-once with FULL, from its start to the last command (VmHWM).".to_owned());
    let backlog = Backlog::post(kafka, "memory", 3, profile.backlog, support::varied);
    let run = subject::run(Subject::ExactlyOnceFull, &backlog);
    table.row([
        profile.backlog.to_string(),
        format!("{:.0}", run.rate),
        format!("{:.2}", run.process),
        format!("{:.0}", run.peak_memory),
    ]);
    report.table(table);
}
