//! The cost of a command with few and with many partitions.

use super::{
    Profile,
    kafka::{Backlog, Kafka},
    results::{Partitions, PartitionsRun},
    say,
    subject::{self, Subject},
    support,
};

pub fn measure(kafka: &Kafka, profile: &Profile) -> Partitions {
    let commands = profile.partition_commands;
    let runs = [1, 10, 100].map(|partitions| {
        let backlog = Backlog::post(kafka, "partitions", partitions, commands, support::varied);
        let run = subject::run(Subject::ExactlyOnceFull, &backlog);
        say!("{partitions} partitions: {:.0} commands/s", run.rate);
        PartitionsRun { partitions, rate: run.rate, process: run.process, broker: run.broker }
    });
    Partitions { commands, runs: runs.into() }
}
