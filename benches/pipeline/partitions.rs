//! What a command costs where there are few and many partitions.

use super::{
    Profile,
    kafka::{Backlog, Kafka},
    report::{Report, Table},
    say,
    subject::{self, Subject},
    support,
};

pub fn measure(kafka: &Kafka, profile: &Profile, report: &mut Report) {
    let header = ["partitions", "commands/s", "processor, µs a command", "the broker, µs a command"];
    let mut table = Table::new("Partitions", &header);
    table.note(format!("{} commands, exactly-once with FULL.", profile.partition_commands));
    for partitions in [1, 10, 100] {
        let backlog =
            Backlog::post(kafka, "partitions", partitions, profile.partition_commands, support::varied);
        let run = subject::run(Subject::ExactlyOnceFull, &backlog);
        say!("{partitions} partitions: {:.0} commands/s", run.rate);
        table.row([
            partitions.to_string(),
            format!("{:.0}", run.rate),
            format!("{:.2}", run.process),
            run.broker.map_or("not known".to_owned(), |broker| format!("{broker:.2}")),
        ]);
    }
    report.table(table);
}
