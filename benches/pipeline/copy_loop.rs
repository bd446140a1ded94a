//! The baseline for the processor: the same client, batches and transactions, but nothing is parsed or stored.
//!
//! It produces one notification per command, of the same average size as the processor's: they are prepared from a thousand
//! commands before it starts. For latencies, each notification gets its command's id, to match them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use activity_stream::config::Processor;
use contract::{ActivityId, Header, OutputRecord, OutputRef, Reading, Record, ReplyTopics};
use crossbeam_channel::{Receiver, bounded};
use kafka::{
    OutputTopic, Polled, Settings, Sink as _, Source as _, Topics,
    client::BATCH_BYTES,
    consumer::GroupConsumer,
    mark::{Marker, NextOffset, RulesHash},
    transactional::Transactional,
};
use processor::{AT_ONCE, BUSY, Caps, IDLE};

use super::support;

type Membership = kafka::consumer::Membership;

struct Batch {
    records: Vec<Record>,
    offsets: BTreeMap<i32, i64>,
    membership: Membership,
}

/// After the group: each notification gets its command's id.
pub const NAMED: &str = "named";

fn settings(words: &mut impl Iterator<Item = String>) -> Settings {
    let mut next = || words.next().expect("servers, three topics and a group");
    Settings {
        bootstrap_servers: next(),
        topics: Topics {
            commands: next(),
            notifications: next(),
            rejections: next(),
            replies: ReplyTopics::default(),
            partitions: 1,
            replication_factor: -1,
            largest_command: 512 << 10,
        },
        group: next(),
        properties: BTreeMap::new(),
    }
}

/// Batches under way: one that is published, and one that waits.
const MOST_UNDER_WAY: usize = 2;

/// What was taken in, and when it is a batch: by the processor's own caps and its own rule.
struct Intake {
    source: GroupConsumer,
    records: Vec<Record>,
    bytes: usize,
    caps: Caps,
    /// The last poll brought nothing.
    exhausted: bool,
}

impl Intake {
    fn is_full(&self) -> bool {
        self.caps.are_reached(self.records.len(), self.bytes)
    }

    fn is_worth_a_batch(&self, under_way: usize) -> bool {
        self.caps.is_worth_a_batch(self.records.len(), self.bytes, under_way)
    }

    fn poll(&mut self, timeout: Duration) {
        self.exhausted = false;
        match self.source.poll(timeout).expect("polled") {
            Polled::Record(record) => {
                self.bytes += record.bytes();
                self.records.push(record);
            }
            Polled::Assigned(partitions) => {
                let start = |partition| (partition, self.source.bounds(partition).expect("its bounds").start);
                let starts: Vec<_> = partitions.into_iter().map(start).collect();
                self.source.start(&starts).expect("started");
            }
            Polled::Revoked(partitions) | Polled::Lost(partitions) => {
                panic!("this is the group's only member, and lost {partitions:?}")
            }
            Polled::Nothing => self.exhausted = true,
        }
    }

    fn take_in(&mut self, timeout: Duration) {
        self.poll(timeout);
        for _ in 0..AT_ONCE {
            if self.exhausted || self.is_full() {
                break;
            }
            self.poll(Duration::ZERO);
        }
    }

    fn take_batch(&mut self) -> Batch {
        self.bytes = 0;
        Batch {
            records: std::mem::take(&mut self.records),
            offsets: self.source.positions().expect("its positions").into_iter().collect(),
            membership: self.source.membership().expect("a member"),
        }
    }
}

/// Copies until the process is ended.
pub fn run(mut words: impl Iterator<Item = String>) {
    let settings = settings(&mut words);
    let named = words.next().as_deref() == Some(NAMED);
    let (to_publish, batches) = bounded(1);
    let under_way = Arc::new(AtomicUsize::new(0));
    let (of_publisher, output, done) = (settings.clone(), sample(), Arc::clone(&under_way));
    let publish = move || publish(&of_publisher, &output, named, &batches, &done);
    let publisher = thread::Builder::new().name("publish".into()).spawn(publish).expect("a thread");
    let copy = move || {
        let source = GroupConsumer::join(&settings).expect("a consumer");
        let Processor { batch_records: records, batch_bytes: bytes, .. } = Processor::default();
        let caps = Caps { records, bytes };
        let mut intake = Intake { source, records: Vec::new(), bytes: 0, caps, exhausted: true };
        loop {
            assert!(!publisher.is_finished(), "it publishes no more");
            let before = under_way.load(Ordering::SeqCst);
            let busy = to_publish.is_full() || before >= MOST_UNDER_WAY;
            if busy && intake.is_full() {
                thread::sleep(BUSY);
            } else if intake.records.is_empty() && !busy {
                intake.take_in(IDLE);
            } else if busy || !intake.is_worth_a_batch(before) {
                intake.take_in(BUSY);
            } else {
                intake.take_in(Duration::ZERO);
            }
            let worth = intake.is_worth_a_batch(under_way.load(Ordering::SeqCst));
            if !busy && (intake.is_full() || intake.exhausted && worth) {
                under_way.fetch_add(1, Ordering::SeqCst);
                to_publish.send(intake.take_batch()).expect("sent");
            }
        }
    };
    thread::Builder::new().name("copy".into()).spawn(copy).expect("a thread").join().expect("it is ended");
}

fn publish(
    settings: &Settings,
    output: &[OutputRecord],
    named: bool,
    batches: &Receiver<Batch>,
    under_way: &AtomicUsize,
) {
    let mut sink = Transactional::new(settings, format!("copy-loop-{}", settings.group), BATCH_BYTES);
    sink.reset().expect("a producer");
    let marker = Marker { instance: uuid::Uuid::nil(), rules: RulesHash(0) };
    let headers: Vec<Vec<_>> =
        output.iter().map(|record| record.headers.iter().map(Header::as_parts).collect()).collect();
    let mut output = output.iter().zip(&headers).cycle().map(|(record, headers)| OutputRef {
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers,
    });
    let mut value = Vec::new();
    for batch in batches {
        sink.begin().expect("begun");
        for (command, record) in batch.records.iter().zip(&mut output) {
            let record = if named { name(record, command, &mut value) } else { record };
            sink.send(OutputTopic::Notifications, record).expect("sent");
        }
        let marked = |(partition, offset)| NextOffset { partition, offset, mark: marker.mark(0) };
        let offsets: Vec<_> = batch.offsets.into_iter().map(marked).collect();
        sink.commit(&offsets, &batch.membership).expect("committed");
        under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

fn name<'r>(record: OutputRef<'r>, command: &Record, value: &'r mut Vec<u8>) -> OutputRef<'r> {
    value.clear();
    value.extend_from_slice(record.value.expect("a value"));
    let id = ActivityId::new(0, command.coordinates).to_string();
    value[super::moments::ID].copy_from_slice(id.as_bytes());
    OutputRef { value: Some(value), ..record }
}

fn sample() -> Vec<OutputRecord> {
    let decider = support::decider();
    let mut sample = Vec::new();
    for number in 0..1000 {
        let record = support::varied(number).record(0, number.cast_signed());
        if let Reading::Valid { event, .. } = decider.read(&record).reading {
            sample
                .extend(event.notifications("activity-stream", &[]).map(|notification| notification.record));
        }
    }
    assert_eq!(sample.len(), 1000, "each command has one notification");
    sample
}
