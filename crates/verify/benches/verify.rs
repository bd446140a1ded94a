//! What checking costs a command: `cargo bench -p activity-stream-verify [-- COMMANDS]`.
//!
//! Everything agrees, as it nearly always does, and the topics lie in memory, so that what is measured is the checker and not
//! Kafka. The temporary file is part of it.

use std::{
    collections::BTreeMap,
    env, fs,
    ops::{ControlFlow, Range},
    time::Instant,
};

use activity_stream_verify::{
    Deviation, Each, Report, Rules, Sizes, Topic, Topics, Unchecked, VerifyError, verify,
};
use contract::{Coordinates, Decider, Decision, Header, Limits, OutputRecord, Record, rejection_record};
use event_log::{Chunk, EventLog, LogOptions, LogReader, Synchronous};
use kafka::{
    Bounds,
    mark::{Committed, Mark, RulesHash},
    scan::Unread,
};

const TOPIC: &str = "activity.commands";
const PARTITIONS: usize = 4;
const OUTPUT_PARTITIONS: usize = 6;
const WINDOW_MS: i64 = 60_000;
const REJECTION_BYTES: usize = 1 << 20;

/// Of ten commands, one is rejected and four have a key, of which two are repetitions. The others notify two targets of three.
fn command(number: i64) -> Record {
    let (mut headers, mut key) = (Vec::new(), None);
    let value = match number % 10 {
        0 => r#"{"objectType":"case"}"#.to_owned(),
        kind @ 1..=4 => {
            headers.push(Header::new("idempotency-key", format!("order {}/{}", number / 10, kind % 2)));
            key = Some(format!("{}", number / 10).into());
            format!(r#"{{"objectType":"case","objectId":"{}"}}"#, number / 10)
        }
        _ => format!(
            r#"{{"objectType":"case","objectId":"{number}","content":"Anna moved the case to another department","targets":[{{"targetId":"anna","notify":true}},{{"targetId":"group {}","notify":true}},{{"@type":"Everyone"}}]}}"#,
            number % 100
        ),
    };
    let partition = (number / 10) as usize % PARTITIONS;
    let coordinates =
        Coordinates { partition: partition as i32, offset: 0, timestamp: 1_700_000_000_000 + number };
    Record { coordinates, key, value: Some(value.into()), headers }
}

#[derive(Default)]
struct InMemory(BTreeMap<usize, Vec<Vec<Record>>>);

impl InMemory {
    fn partitions(&mut self, topic: Topic) -> &mut Vec<Vec<Record>> {
        let partitions = if topic == Topic::Commands { PARTITIONS } else { OUTPUT_PARTITIONS };
        self.0.entry(topic as usize).or_insert_with(|| vec![Vec::new(); partitions])
    }

    fn push(&mut self, topic: Topic, partition: usize, mut record: Record) {
        let records = &mut self.partitions(topic)[partition];
        let coordinates =
            Coordinates { partition: partition as i32, offset: records.len() as i64, ..record.coordinates };
        record.coordinates = coordinates;
        records.push(record);
    }

    fn publish(&mut self, topic: Topic, OutputRecord { key, value, headers }: OutputRecord) {
        let partition = crc32c::crc32c(key.as_deref().unwrap_or_default()) as usize % OUTPUT_PARTITIONS;
        let coordinates = Coordinates { partition: 0, offset: 0, timestamp: 0 };
        self.push(topic, partition, Record { coordinates, key, value, headers });
    }
}

impl Topics for InMemory {
    fn committed(&mut self) -> Result<Vec<Option<Committed>>, VerifyError> {
        let decider = Decider::new(TOPIC, Limits::default());
        let mark = Mark { instance: uuid::Uuid::nil(), clock: 0, rules: RulesHash::of(&decider, WINDOW_MS) };
        let ends = self.bounds(Topic::Commands)?.into_iter();
        Ok(ends.map(|bounds| Some(Committed { offset: bounds.end, mark: Some(mark) })).collect())
    }

    fn bounds(&mut self, topic: Topic) -> Result<Vec<Bounds>, VerifyError> {
        Ok(self
            .partitions(topic)
            .iter()
            .map(|records| Bounds { start: 0, end: records.len() as i64 })
            .collect())
    }

    fn read(
        &mut self,
        topic: Topic,
        wanted: &[(i32, Range<i64>)],
        each: &mut Each<'_>,
    ) -> Result<Vec<Unread>, VerifyError> {
        let partitions = self.partitions(topic);
        // As a consumer gives them: some of one partition, then some of another.
        let mut left = wanted.to_vec();
        while left.iter().any(|(_, offsets)| !offsets.is_empty()) {
            for (partition, offsets) in &mut left {
                for offset in offsets.by_ref().take(500) {
                    if each(partitions[*partition as usize][offset as usize].clone())?
                        == ControlFlow::Break(())
                    {
                        return Ok(Vec::new());
                    }
                }
            }
        }
        Ok(Vec::new())
    }
}

struct Silent;

impl Report for Silent {
    fn deviation(&mut self, deviation: &Deviation) -> Result<(), VerifyError> {
        panic!("{deviation:?}");
    }

    fn unchecked(&mut self, unchecked: &Unchecked) -> Result<(), VerifyError> {
        panic!("{unchecked:?}");
    }

    fn ahead(&mut self, _: u64) {}

    fn advanced(&mut self, _: u64) {}
}

/// Milliseconds that this thread was on a processor.
fn cpu_ms() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds") / 1e6
}

fn status(name: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").expect("Linux");
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default().to_owned()
}

fn main() {
    let commands = env::args().find_map(|word| word.parse().ok()).unwrap_or(200_000_i64);
    let folder = tempfile::tempdir().expect("a folder");
    let options = LogOptions {
        path: folder.path().join("activity.db"),
        topic: TOPIC.into(),
        synchronous: Synchronous::Normal,
        cache_bytes: 32 << 20,
        window_ms: WINDOW_MS,
        max_pages: None,
    };
    let rules = Rules {
        decider: Decider::new(TOPIC, Limits::default()),
        window_ms: WINDOW_MS,
        source: "activity-stream".into(),
        rejection_bytes: REJECTION_BYTES,
        group: "g".into(),
        notifications_topic: "n".into(),
        rejections_topic: "r".into(),
    };
    let mut topics = InMemory::default();
    for number in 0..commands {
        let record = command(number);
        topics.push(Topic::Commands, record.coordinates.partition as usize, record);
    }
    let mut log = EventLog::open(&options).expect("a log");
    for (partition, records) in (0..).zip(topics.partitions(Topic::Commands).clone()) {
        for records in records.chunks(1_000) {
            let verdicts: Vec<_> = records.iter().map(|record| rules.decider.read(record)).collect();
            let next_offset = verdicts.last().map_or(0, |verdict| verdict.coordinates.offset + 1);
            let chunk = Chunk { partition, next_offset, verdicts };
            let settled = log.append(vec![chunk], &[]).expect("appended").remove(0);
            for (record, settled) in records.iter().zip(settled) {
                match settled.decision {
                    Decision::Accepted(event) => {
                        for notification in event.notifications(&rules.source, &record.headers) {
                            topics.publish(Topic::Notifications, notification.record);
                        }
                    }
                    Decision::Duplicate { .. } => {}
                    Decision::Rejected(problems) => {
                        let rejection = rejection_record(record, TOPIC, &problems, REJECTION_BYTES);
                        topics.publish(Topic::Rejections, rejection);
                    }
                }
            }
        }
    }
    let logs = [LogReader::open(&options.path).expect("a log")];
    for _ in 0..3 {
        let (before, began, held) = (cpu_ms(), Instant::now(), status("VmRSS:"));
        let summary = verify(&mut topics, &logs, &rules, Sizes::default(), &mut Silent).expect("checked");
        let (ms, wall) = (cpu_ms() - before, began.elapsed().as_millis());
        println!(
            "{:.2} us of CPU a command ({:.0} ms, {wall} ms elapsed): {summary:?}; resident {held} before, {} at most",
            ms * 1e3 / commands as f64,
            ms,
            status("VmHWM:"),
        );
    }
}
