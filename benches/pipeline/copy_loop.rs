//! What the processor is compared with: the same client, batches and transactions, but nothing is parsed or stored.
//!
//! It produces for each command one notification as the processor would, of the same size on average: they are made
//! of a thousand commands before it begins. Where latencies are measured, each gets its command's id, so that it is known
//! which command it is of.

use std::{collections::BTreeMap, thread, time::Duration};

use activity_stream::{
    activity::{ActivityId, OutputRecord, Reading, Record, ReplyTopics},
    config::Processor,
    kafka::{
        OutputTopic, Polled, Settings, Sink as _, Source as _, Topics, client::BATCH_BYTES,
        consumer::GroupConsumer, transactional::Transactional,
    },
};
use crossbeam_channel::{Receiver, bounded};

use super::support;

type Membership = activity_stream::kafka::consumer::Membership;

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

/// Copies until the process is ended.
pub fn run(mut words: impl Iterator<Item = String>) {
    let settings = settings(&mut words);
    let named = words.next().as_deref() == Some(NAMED);
    let (to_publish, batches) = bounded(1);
    let (of_publisher, output) = (settings.clone(), sample());
    let publish = move || publish(&of_publisher, &output, named, &batches);
    thread::Builder::new().name("publish".into()).spawn(publish).expect("a thread");
    let copy = move || {
        let mut source = GroupConsumer::join(&settings).expect("a consumer");
        // The processor's own caps.
        let Processor { batch_records, batch_bytes, .. } = Processor::default();
        let mut batch = Vec::new();
        let mut bytes = 0;
        loop {
            let full = batch.len() >= batch_records || bytes >= batch_bytes;
            let polled =
                if full { Polled::Nothing } else { source.poll(Duration::from_millis(1)).expect("polled") };
            match polled {
                Polled::Record(record) => {
                    bytes += record.bytes();
                    batch.push(record);
                    continue;
                }
                Polled::Assigned(partitions) => {
                    let starts: Vec<_> = partitions
                        .into_iter()
                        .map(|partition| (partition, source.bounds(partition).expect("its bounds").start))
                        .collect();
                    source.start(&starts).expect("started");
                }
                Polled::Revoked(partitions) | Polled::Lost(partitions) => {
                    panic!("this is the group's only member, and lost {partitions:?}")
                }
                Polled::Nothing => {}
            }
            if batch.is_empty() || to_publish.is_full() {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let membership = source.membership().expect("a member");
            let offsets = source.positions().expect("its positions").into_iter().collect();
            bytes = 0;
            to_publish
                .send(Batch { records: std::mem::take(&mut batch), offsets, membership })
                .expect("sent");
        }
    };
    thread::Builder::new().name("copy".into()).spawn(copy).expect("a thread").join().expect("it is ended");
}

fn publish(settings: &Settings, output: &[OutputRecord], named: bool, batches: &Receiver<Batch>) {
    let mut sink = Transactional::new(settings, format!("copy-loop-{}", settings.group), BATCH_BYTES);
    sink.reset().expect("a producer");
    let mut output = output.iter().cycle();
    for batch in batches {
        sink.begin().expect("begun");
        for (command, record) in batch.records.iter().zip(&mut output) {
            if named {
                sink.send(OutputTopic::Notifications, &name(record, command)).expect("sent");
            } else {
                sink.send(OutputTopic::Notifications, record).expect("sent");
            }
        }
        let offsets: Vec<_> = batch.offsets.into_iter().collect();
        sink.commit(&offsets, &batch.membership).expect("committed");
    }
}

fn name(record: &OutputRecord, command: &Record) -> OutputRecord {
    let id = ActivityId::new(0, command.coordinates).to_string();
    let mut record = record.clone();
    record.value.as_mut().expect("a value")[super::latency::ID].copy_from_slice(id.as_bytes());
    record
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
