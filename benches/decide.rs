//! The pure core: from a record to its verdict, its event and its notifications.

use std::hint::black_box;

use contract::{Event, Reading, Record, rejection_record};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

mod support;

use support::{Command, TOPIC};

/// A thousand different commands, so that no branch is learnt by heart.
fn records(make: impl Fn(u64) -> Command) -> Vec<Record> {
    (0..1000).map(|number| make(number).record(0, number.cast_signed())).collect()
}

fn kinds() -> [(&'static str, Vec<Record>); 5] {
    [
        ("small", records(support::small)),
        ("usual", records(support::usual)),
        ("large", records(support::large)),
        ("bad", records(support::bad)),
        ("keyed", records(|number| support::usual(number).keyed(number))),
    ]
}

fn events(records: &[Record]) -> Vec<Event> {
    let decider = support::decider();
    let read = |record| match decider.read(record).reading {
        Reading::Valid { event, .. } => event,
        Reading::Rejected(problems) => panic!("a bad command: {problems}"),
    };
    records.iter().map(read).collect()
}

fn decide(criterion: &mut Criterion) {
    let decider = support::decider();
    let mut group = criterion.benchmark_group("decide");
    for (kind, records) in kinds() {
        let bytes: usize = records.iter().map(Record::bytes).sum();
        group.throughput(Throughput::Bytes((bytes / records.len()) as u64));
        let mut each = records.iter().cycle();
        group.bench_function(kind, |bencher| bencher.iter(|| decider.read(each.next().expect("a cycle"))));
    }
}

/// An event read back from the log, as where a batch was appended and not yet published.
fn event(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("event read back");
    for (kind, records) in [("usual", records(support::usual)), ("large", records(support::large))] {
        let topic_bits = support::decider().topic_bits();
        let events = events(&records);
        let mut each = events.iter().cycle();
        group.bench_function(kind, |bencher| {
            bencher.iter_batched(
                || each.next().map(|event| (event.coordinates(), event.json().to_owned())).expect("a cycle"),
                |(at, json)| Event::from_log(topic_bits, at, json),
                BatchSize::SmallInput,
            );
        });
    }
}

/// All records that follow from one command. (The event itself is written out as part of `decide`.)
fn notifications(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("notifications");
    for (kind, records) in [("usual", records(support::usual)), ("large", records(support::large))] {
        let events = events(&records);
        group.throughput(Throughput::Elements(events[0].notification_count() as u64));
        let mut each = events.iter().cycle();
        let mut text = String::new();
        group.bench_function(kind, |bencher| {
            bencher.iter(|| {
                let event = each.next().expect("a cycle");
                let mut notifications = event.notifications("activity-stream", &[]);
                while let Some(notification) = notifications.next_in(&mut text) {
                    black_box(&notification);
                }
            });
        });
    }
}

fn rejection(criterion: &mut Criterion) {
    let decider = support::decider();
    let records = records(support::bad);
    let rejected: Vec<_> = records
        .iter()
        .map(|record| match decider.read(record).reading {
            Reading::Rejected(problems) => (record, problems),
            Reading::Valid { .. } => panic!("a valid command"),
        })
        .collect();
    let mut each = rejected.iter().cycle();
    criterion.bench_function("rejection", |bencher| {
        bencher.iter(|| {
            let (record, problems) = each.next().expect("a cycle");
            rejection_record(record, TOPIC, problems, 1 << 20)
        });
    });
}

criterion_group!(benches, decide, event, notifications, rejection);
criterion_main!(benches);
