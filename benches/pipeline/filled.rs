//! An event log that is filled here, without Kafka.

use std::{
    ops::Range,
    path::PathBuf,
    time::{Duration, Instant},
};

use activity_stream::config::{Processor, Synchronous};
use contract::Decider;
use event_log::{Chunk, EventLog};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    cpu, guard,
    results::{Cost, Spread},
    support,
};

/// Commands of the processor's largest batch.
pub fn batch() -> u64 {
    Processor::default().batch_records as u64
}

/// A log with events 0, 1, 2, … in one partition.
pub struct Filled {
    pub log: EventLog,
    pub path: PathBuf,
    decider: Decider,
    next: u64,
    checkpoints: Connection,
    _folder: TempDir,
}

/// Which commands have an idempotency key.
#[derive(Debug, Clone)]
pub enum Keyed {
    None,
    /// One of this number of commands, each with a key of its own.
    OneOf(u64),
    /// All: each repeats one of these commands, which are in the log.
    Repeats(Range<u64>),
}

/// Samples, and commands of each.
const SAMPLES: usize = 5;
pub const SAMPLE: u64 = 20_000;

impl Filled {
    pub fn new() -> Self {
        let folder = guard::folder("bench-log");
        let log = support::log(folder.path(), Synchronous::Full);
        let path = folder.path().join(support::LOG_FILE);
        let checkpoints = Connection::open(&path).expect("a connection");
        Self { log, path, decider: support::decider(), next: 0, checkpoints, _folder: folder }
    }

    pub fn len(&self) -> u64 {
        self.next
    }

    /// What an append costs now, with its part of the checkpoints: the log grows by [`SAMPLE`] for each of the samples.
    pub fn cost(&mut self, keyed: &Keyed) -> Cost {
        self.checkpoint();
        let samples: Vec<_> = (0..SAMPLES)
            .map(|_| {
                let (used, took) = self.append(SAMPLE, keyed);
                let (begun, before) = (Instant::now(), cpu::of_this_thread());
                self.checkpoint();
                let each = |time: Duration| time.as_secs_f64() * 1e6 / SAMPLE as f64;
                (each(used + (cpu::of_this_thread() - before)), each(took + begun.elapsed()))
            })
            .collect();
        Cost {
            cpu: Spread::of(samples.iter().map(|(used, _)| *used)),
            elapsed: Spread::of(samples.iter().map(|(_, took)| *took)).median,
        }
    }

    /// Writes what is in the -wal file only into the log.
    fn checkpoint(&self) {
        let busy: i64 = self
            .checkpoints
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .expect("a checkpoint");
        assert_eq!(busy, 0, "nobody else reads or writes");
    }

    /// Appends this number of commands. Returns CPU time and elapsed time.
    pub fn append(&mut self, commands: u64, keyed: &Keyed) -> (Duration, Duration) {
        let (mut used, mut took) = (Duration::ZERO, Duration::ZERO);
        let end = self.next + commands;
        while self.next < end {
            let numbers = self.next..end.min(self.next + batch());
            self.next = numbers.end;
            let read = |number: u64| {
                let command = match keyed {
                    Keyed::OneOf(of) if number.is_multiple_of(*of) => support::varied(number).keyed(number),
                    Keyed::None | Keyed::OneOf(_) => support::varied(number),
                    Keyed::Repeats(earlier) => {
                        // Spread over all of them.
                        let number = earlier.start
                            + number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (earlier.end - earlier.start);
                        support::varied(number).keyed(number)
                    }
                };
                self.decider.read(&command.record(0, number.cast_signed()))
            };
            let chunk = Chunk {
                partition: 0,
                next_offset: self.next.cast_signed(),
                verdicts: numbers.map(read).collect(),
            };
            let (begun, before) = (Instant::now(), cpu::of_this_thread());
            let appended = self.log.append(vec![chunk], &[]).expect("appended");
            used += cpu::of_this_thread() - before;
            took += begun.elapsed();
            drop(appended);
        }
        (used, took)
    }
}
