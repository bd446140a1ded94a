//! Rate, CPU time and memory, in rounds whose order rotates.

use std::time::Instant;

use rusqlite::Connection;

use super::{
    cpu,
    kafka::{Backlog, Kafka},
    programs::{LOG_FILE, Program},
    results::{Compared, Measured, SubjectFigures},
    running::Running,
    say,
    spread::Spread,
    support,
};

pub const PARTITIONS: i32 = 3;

/// One run through the backlog.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Commands a second.
    rate: f64,
    steady_rate: f64,
    /// CPU microseconds a command.
    cpu: f64,
    steady_cpu: f64,
    broker: Option<f64>,
    /// MB.
    peak_memory: f64,
}

pub fn measure(kafka: &Kafka, programs: &[Program], commands: u64, rounds: usize) -> Measured {
    let backlog = Backlog::post(kafka, "peers", PARTITIONS, commands, support::varied);
    // Not counted: the broker compiles itself while it works, and shares the cores with what is measured.
    let warm_up = run(&programs[0], &backlog);
    say!("warm-up: {:.0} commands/s", warm_up.rate);
    let count = programs.len();
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); count];
    for round in 0..rounds {
        // What runs before another leaves it a busy disk, or a broker that cleans up; so it is not always the same.
        let mut order: Vec<_> = (0..count).map(|place| (place + round) % count).collect();
        if !round.is_multiple_of(2) {
            order.reverse();
        }
        for place in order {
            let run = run(&programs[place], &backlog);
            say!(
                "round {}, {}: {:.0} commands/s (second half {:.0}), {:.2} µs of CPU a command (second half {:.2}), \
                 broker {:.2}, {:.0} MB",
                round + 1,
                programs[place].subject.name(),
                run.rate,
                run.steady_rate,
                run.cpu,
                run.steady_cpu,
                run.broker.unwrap_or(f64::NAN),
                run.peak_memory
            );
            runs[place].push(run);
        }
    }
    let subjects =
        programs.iter().zip(&runs).map(|(program, of_it)| figures(program, of_it, &runs[0])).collect();
    Measured { commands, partitions: PARTITIONS, rounds, subjects }
}

fn figures(program: &Program, runs: &[Run], own: &[Run]) -> SubjectFigures {
    let compared = |value: fn(&Run) -> f64| Compared {
        value: Spread::of(runs.iter().map(value)),
        ratio: Spread::of(runs.iter().zip(own).map(|(run, own)| value(run) / value(own))),
    };
    SubjectFigures {
        name: program.subject.name().to_owned(),
        short_name: program.subject.short_name().to_owned(),
        rate: compared(|run| run.rate),
        steady_rate: compared(|run| run.steady_rate),
        cpu: compared(|run| run.cpu),
        steady_cpu: compared(|run| run.steady_cpu),
        broker: runs[0].broker.map(|_| compared(|run| run.broker.unwrap_or_default())),
        peak_memory: Spread::of(runs.iter().map(|run| run.peak_memory)),
    }
}

/// What is known at one moment.
struct Seen {
    at: Instant,
    committed: u64,
    /// Microseconds, since the start.
    cpu: f64,
}

impl Seen {
    fn rate_since(&self, earlier: &Self) -> f64 {
        self.more_than(earlier) / (self.at - earlier.at).as_secs_f64()
    }

    fn more_than(&self, earlier: &Self) -> f64 {
        let more = self.committed - earlier.committed;
        assert!(more > 0, "all was committed at once: measure with more commands");
        more as f64
    }
}

fn run(program: &Program, backlog: &Backlog<'_>) -> Run {
    let kafka = backlog.kafka;
    let broker = kafka.cpu();
    let command = |names: &_, folder: &_| program.command(&kafka.servers, names, folder);
    let mut running = Running::start(command, &kafka.servers, backlog.names("run"), backlog.partitions);
    let family = |running: &Running| cpu::family(running.id());
    let see = |running: &mut Running, wanted| {
        let committed = running.await_committed(wanted);
        let used: f64 = family(running).into_iter().map(|id| cpu::total(id).as_secs_f64() * 1e6).sum();
        Seen { at: Instant::now(), committed, cpu: used }
    };
    let first = see(&mut running, 1);
    let half = see(&mut running, first.committed.midpoint(backlog.commands));
    let last = see(&mut running, backlog.commands);
    let broker = kafka.cpu().zip(broker).map(|(after, before)| after - before);
    let peak_memory = family(&running).into_iter().map(cpu::peak_memory).sum();
    let log = Connection::open(running.folder().join(LOG_FILE)).expect("the log");
    let events: i64 = log.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).expect("a count");
    assert_eq!(events as u64, backlog.commands, "{}: events in the log", program.subject.name());
    drop(log);
    running.stop();
    Run {
        rate: last.rate_since(&first),
        steady_rate: last.rate_since(&half),
        cpu: last.cpu / last.committed as f64,
        steady_cpu: (last.cpu - half.cpu) / last.more_than(&half),
        broker: broker.map(|used| used.as_secs_f64() * 1e6 / last.committed as f64),
        peak_memory,
    }
}
