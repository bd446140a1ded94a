//! The processor's own work for a command, in one thread and without Kafka.
//!
//! For a profiler that counts instructions:
//!
//! ```sh
//! cargo bench --bench pipeline --no-run
//! valgrind --tool=callgrind --toggle-collect='pipeline::stages::stages*' target/release/deps/pipeline-… stages 6000
//! ```

use std::{hint::black_box, time::Duration};

use activity_stream::config::Synchronous;
use contract::{Decision, Fate, Record};
use event_log::{EventLog, Stretch};
use kafka::native;

use super::{
    Profile, cpu,
    filled::batch,
    guard,
    results::{Spread, Stages},
    say, support,
};

/// The number of rounds, of which the median is printed.
const ROUNDS: usize = 5;

/// Of deciding, appending and making the notification.
type Steps<T> = [T; 3];

pub fn measure(profile: &Profile) -> Stages {
    let rounds: Vec<Steps<f64>> = (0..ROUNDS).map(|_| round(profile.stage_commands)).collect();
    let median = |value: &dyn Fn(&Steps<f64>) -> f64| Spread::of(rounds.iter().map(value)).median;
    let [decide, append, notification] = [0, 1, 2].map(|step| median(&|round| round[step]));
    let total = median(&|round| round.iter().sum());
    say!("own work: {total:.2} µs of CPU a command");
    Stages {
        batch: batch(),
        rounds: ROUNDS,
        commands: profile.stage_commands,
        decide,
        append,
        notification,
        total,
    }
}

/// µs of CPU a command.
fn round(commands: u64) -> Steps<f64> {
    let folder = guard::folder("bench-log");
    let mut log = support::log(folder.path(), Synchronous::Full);
    let mut used: Steps<Duration> = Default::default();
    for first in (0..commands).step_by(batch() as usize) {
        let records = records(first..commands.min(first + batch()));
        let mut last = cpu::of_this_thread();
        stages(&mut log, &records, |step| {
            let now = cpu::of_this_thread();
            used[step] += now - last;
            last = now;
        });
    }
    used.map(|time| time.as_secs_f64() * 1e6 / commands as f64)
}

/// The same, for a profiler.
pub fn run(mut words: impl Iterator<Item = String>) {
    let commands: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(20_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut log = support::log(folder.path(), Synchronous::Normal);
    let mut bytes = 0;
    for first in (0..commands).step_by(batch() as usize) {
        bytes += stages(&mut log, &records(first..commands.min(first + batch())), |_| {});
    }
    println!("{commands} commands, {bytes} bytes of notifications");
}

fn records(numbers: std::ops::Range<u64>) -> Vec<Record> {
    numbers.map(|number| support::usual(number).record(0, number.cast_signed())).collect()
}

/// Returns the bytes of the notifications. Calls `done` at the end of each step.
#[inline(never)]
fn stages(log: &mut EventLog, batch: &[Record], mut done: impl FnMut(usize)) -> usize {
    let mut fates = decide(batch);
    done(0);
    append(log, batch, &mut fates);
    done(1);
    let bytes = publish(&fates);
    drop(fates);
    done(2);
    bytes
}

#[inline(never)]
fn decide(batch: &[Record]) -> Vec<Fate> {
    support::decider().read_all(batch).into_iter().map(Fate::Read).collect()
}

#[inline(never)]
fn append(log: &mut EventLog, batch: &[Record], fates: &mut [Fate]) {
    let next_offset = batch.last().map_or(0, |record| record.coordinates.offset + 1);
    log.append_batch(&mut [Stretch { partition: 0, next_offset, fates }], &[]).expect("appended");
    log.checkpoint_if_due();
}

#[inline(never)]
fn publish(fates: &[Fate]) -> usize {
    let (mut text, mut bytes) = (String::new(), 0);
    for fate in fates {
        let Some(Decision::Accepted(event)) = fate.decision() else { panic!("not accepted") };
        let mut notifications = event.notifications("activity-stream", &[]);
        while let Some(notification) = notifications.next_in(&mut text) {
            let record = notification.output();
            drop(black_box(native::to_native(record.headers.iter().copied())));
            bytes += record.bytes();
        }
    }
    bytes
}
