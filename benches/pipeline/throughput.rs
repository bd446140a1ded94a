//! Commands a second and CPU time a command, the processor beside the copy loop.

use super::{
    Profile,
    cpu::STAGES,
    kafka::{Backlog, Kafka},
    results::{Spread, SubjectFigures, Throughput},
    say,
    subject::{self, Run, Subject},
    support,
};

const PARTITIONS: i32 = 3;
const COUNT: usize = Subject::ALL.len();

pub fn measure(kafka: &Kafka, profile: &Profile) -> Throughput {
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
    let full = runs[1].iter().map(|run| run.peak_memory).fold(0.0, f64::max);
    Throughput {
        commands: profile.commands,
        partitions: PARTITIONS,
        rounds: profile.rounds,
        peak_memory: full,
        subjects: Subject::ALL
            .into_iter()
            .zip(&runs)
            .map(|(it, of_it)| figures(it, of_it, &runs[0]))
            .collect(),
    }
}

fn figures(subject: Subject, runs: &[Run], copies: &[Run]) -> SubjectFigures {
    let median = |value: &dyn Fn(&Run) -> f64| Spread::of(runs.iter().map(value)).median;
    let cpu = STAGES.map(|stage| {
        let of_stage =
            |run: &Run| run.stages.iter().find(|(name, _)| *name == stage).map_or(0.0, |(_, time)| *time);
        (stage.to_owned(), median(&of_stage))
    });
    SubjectFigures {
        name: subject.name().to_owned(),
        short_name: subject.short_name().to_owned(),
        rate: Spread::of(runs.iter().map(|run| run.rate)),
        ratio: Spread::of(runs.iter().zip(copies).map(|(run, copy)| run.rate / copy.rate)),
        cpu: cpu.to_vec(),
        process: median(&|run| run.process),
        broker: runs[0].broker.map(|_| median(&|run| run.broker.unwrap_or(0.0))),
    }
}
