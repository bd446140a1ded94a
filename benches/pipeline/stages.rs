//! The stages in one thread, without Kafka: the same instructions each time, for a profiler that counts them.
//!
//! ```sh
//! cargo bench --bench pipeline --no-run
//! valgrind --tool=callgrind target/release/deps/pipeline-… stages 20000
//! ```

use std::{hint::black_box, time::Instant};

use activity_stream::{
    activity::{Decision, Record},
    config::Synchronous,
    event_log::{Chunk, EventLog},
    kafka::native,
};

use super::support;

/// Commands in a batch.
const BATCH: usize = 2_000;

/// Decides, appends and writes out the notifications of so many usual commands.
pub fn run(mut words: impl Iterator<Item = String>) {
    let commands: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(20_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut log = support::log(folder.path(), Synchronous::Normal);
    let records: Vec<Record> =
        (0..commands).map(|number| support::usual(number).record(0, number.cast_signed())).collect();
    let (begun, mut bytes) = (Instant::now(), 0);
    for batch in records.chunks(BATCH) {
        bytes += stages(&mut log, batch);
    }
    println!("{commands} commands, {bytes} bytes of notifications, {:?}", begun.elapsed());
}

#[inline(never)]
fn stages(log: &mut EventLog, batch: &[Record]) -> usize {
    let verdicts = decide(batch);
    let next_offset = batch.last().map_or(0, |record| record.coordinates.offset + 1);
    let settled = log.append(vec![Chunk { partition: 0, next_offset, verdicts }], &[]).expect("appended");
    settled.into_iter().flatten().map(|settled| publish(&settled.decision)).sum()
}

#[inline(never)]
fn decide(batch: &[Record]) -> Vec<activity_stream::activity::Verdict> {
    let decider = support::decider();
    batch.iter().map(|record| decider.read(record)).collect()
}

#[inline(never)]
fn publish(decision: &Decision) -> usize {
    let Decision::Accepted(event) = decision else { panic!("not accepted") };
    let notifications = event.notifications("activity-stream", &[]);
    notifications
        .map(|notification| {
            drop(black_box(native::to_native(&notification.record.headers)));
            notification.record.bytes()
        })
        .sum()
}
