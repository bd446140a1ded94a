//! Appending to the log: an event's share of a batch, of one event to more than a batch has by default.

use std::time::Duration;

use activity_stream::config::Synchronous;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use event_log::Chunk;

mod support;

fn append(criterion: &mut Criterion) {
    let decider = support::decider();
    for (name, synchronous) in [("append, FULL", Synchronous::Full), ("append, NORMAL", Synchronous::Normal)]
    {
        let mut group = criterion.benchmark_group(name);
        // Each writes to the disk, so few of them tell as much as many.
        group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
        for batch in [1, 100, 10_000] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut log = support::log(folder.path(), synchronous);
            let mut next_offset = 0;
            group.throughput(Throughput::Elements(batch));
            group.bench_function(format!("batch of {batch}"), |bencher| {
                bencher.iter_batched(
                    || {
                        let first = next_offset;
                        next_offset += batch.cast_signed();
                        let offsets = first..next_offset;
                        let verdicts = offsets
                            .map(|offset| {
                                decider.read(&support::usual(offset.cast_unsigned()).record(0, offset))
                            })
                            .collect();
                        vec![Chunk { partition: 0, next_offset, verdicts }]
                    },
                    |chunks| log.append(chunks, &[]).expect("appended"),
                    BatchSize::PerIteration,
                );
            });
        }
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
