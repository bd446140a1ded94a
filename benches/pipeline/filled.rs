//! An event log that is filled here, without Kafka.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use activity_stream::{
    activity::Decider,
    config::Synchronous,
    event_log::{Chunk, EventLog},
};
use tempfile::TempDir;

use super::{cpu, guard, support};

/// The processor's largest batch.
const BATCH: u64 = 5_000;

/// A log with events 0, 1, 2, … in one partition.
pub struct Filled {
    pub log: EventLog,
    pub path: PathBuf,
    decider: Decider,
    next: u64,
    _folder: TempDir,
}

/// What appends took, a command.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub cpu_us: f64,
    pub wall_us: f64,
}

impl Filled {
    pub fn new() -> Self {
        let folder = guard::folder("bench-log");
        let log = support::log(folder.path(), Synchronous::Full);
        let path = folder.path().join(support::LOG_FILE);
        Self { log, path, decider: support::decider(), next: 0, _folder: folder }
    }

    pub fn len(&self) -> u64 {
        self.next
    }

    /// Appends so many commands, of which `keyed` in ten have an idempotency key.
    pub fn append(&mut self, commands: u64, keyed: u64) -> Cost {
        let (mut used, mut took) = (Duration::ZERO, Duration::ZERO);
        let end = self.next + commands;
        while self.next < end {
            let numbers = self.next..end.min(self.next + BATCH);
            self.next = numbers.end;
            let read = |number: u64| {
                let command = support::varied(number);
                let command = if number % 10 < keyed { command.keyed(number) } else { command };
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
        let each = |time: Duration| time.as_secs_f64() * 1e6 / commands as f64;
        Cost { cpu_us: each(used), wall_us: each(took) }
    }
}
