//! A small, consistent world: commands, a log written by the log's own writer, and the output that they require.

use std::{
    collections::BTreeMap,
    ops::{ControlFlow, Range},
    path::PathBuf,
};

use bytes::Bytes;
use contract::{Coordinates, Decider, Decision, Header, Limits, OutputRecord, Record, rejection_record};
use event_log::{Chunk, EventLog, LogOptions, LogReader, Synchronous};
use kafka::{
    Bounds,
    mark::{Committed, Mark, RulesHash},
    scan::Unread,
};
use rusqlite::Connection;
use tempfile::TempDir;

use super::super::{
    Deviation, Each, Report, Rules, Sizes, Summary, Topic, Topics, Unchecked, VerifyError, verify,
};

pub const TOPIC: &str = "activity.commands";
pub const WINDOW_MS: i64 = 200;
pub const PARTITIONS: i32 = 2;
const OUTPUT_PARTITIONS: usize = 3;
const REJECTION_BYTES: usize = 1 << 20;

/// A partition with holes where control records would be.
#[derive(Debug, Clone, Default)]
pub struct Partition {
    pub start: i64,
    pub end: i64,
    pub records: Vec<Record>,
    /// From this offset on, an open transaction hides everything.
    pub held_back: Option<i64>,
}

impl Partition {
    pub fn push(&mut self, mut record: Record) {
        record.coordinates.offset = self.end;
        self.end += 1;
        self.records.push(record);
    }
}

pub struct World {
    pub topics: BTreeMap<usize, Vec<Partition>>,
    pub committed: Vec<Option<i64>>,
    /// Partitions whose offset somebody else committed.
    pub foreign: Vec<usize>,
    pub logs: Vec<PathBuf>,
    pub window_ms: i64,
    pub rejection_bytes: usize,
    /// What retention deletes after a number of reads: the topic, the number of reads, and the offset below which it
    /// deletes.
    pub deleted_later: Option<(Topic, usize, i64)>,
    _folder: TempDir,
}

/// Everything that was reported, in that order.
#[derive(Debug, Default)]
pub struct Reported {
    pub deviations: Vec<Deviation>,
    pub unchecked: Vec<Unchecked>,
    pub summary: Summary,
    ahead: u64,
    advanced: u64,
}

impl Report for Reported {
    fn deviation(&mut self, deviation: &Deviation) -> Result<(), VerifyError> {
        self.deviations.push(deviation.clone());
        Ok(())
    }

    fn unchecked(&mut self, unchecked: &Unchecked) -> Result<(), VerifyError> {
        self.unchecked.push(unchecked.clone());
        Ok(())
    }

    fn ahead(&mut self, records: u64) {
        self.ahead += records;
    }

    fn advanced(&mut self, records: u64) {
        self.advanced += records;
        assert!(self.advanced <= self.ahead, "further than there is to go");
    }
}

/// So small that the rows are sorted in many runs of several levels.
pub const TINY: Sizes = Sizes { records: 2 };

fn decider() -> Decider {
    Decider::new(TOPIC, Limits::default())
}

/// Commands of all kinds; `number` says which.
fn command(number: i64) -> Record {
    let at = Coordinates { partition: 0, offset: 0, timestamp: 1_700_000_000_000 + number * 7 };
    let (mut headers, mut key) = (Vec::new(), Some(Bytes::from(format!("k{}", number % 5))));
    let keyed =
        |kind: &str| format!(r#"{{"objectType":"case","objectId":"k","content":"{kind} {}"}}"#, number / 10);
    let with_key = |key: String, headers: &mut Vec<Header>| {
        headers.push(Header::new("idempotency-key", key.clone()));
        format!(
            r#"{{"objectType":"case","objectId":"{key}","targets":[{{"targetId":"anna","notify":true}}]}}"#
        )
    };
    let value = match number % 10 {
        0 => r#"{"objectType":"case""#.to_owned(),
        1 => r#"{"objectType":"case","objectId":"","targets":[]}"#.to_owned(),
        remainder @ 2..=4 => {
            let entry = if remainder == 4 { keyed("other") } else { keyed("keyed") };
            let id = format!("key {}", number / 10);
            match number / 10 % 3 {
                0 => {
                    headers.push(Header::new("idempotency-key", id));
                    entry
                }
                1 => {
                    for (name, value) in
                        [("specversion", "1.0"), ("id", &id), ("source", "/s"), ("type", "t")]
                    {
                        headers.push(Header::new(format!("ce_{name}"), value));
                    }
                    entry
                }
                _ => {
                    headers.push(Header::new("content-type", "application/cloudevents+json"));
                    format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t","data":{entry}}}"#)
                }
            }
        }
        // Below: a key that always repeats within the window; one that repeats after it has expired; and one that is used
        // independently in each partition.
        _ if number % 20 == 15 => with_key("often".to_owned(), &mut headers),
        _ if number % 40 == 5 => with_key("rare".to_owned(), &mut headers),
        6 => with_key(format!("both {}", number / 20), &mut headers),
        _ => {
            if number % 4 == 0 {
                headers.push(Header::new("traceparent", format!("00-{number:032x}-{number:016x}-01")));
                key = None;
            }
            let notify = number % 2 == 0;
            format!(
                r#"{{"objectType":"case","objectId":"{}","n":{number},"targets":[{{"targetId":"anna","notify":true}},{{"@type":"Everyone"}},{{"targetId":"u{}","notify":{notify}}}]}}"#,
                number % 7,
                number % 3
            )
        }
    };
    Record { coordinates: at, key, value: Some(value.into()), headers }
}

impl World {
    /// Commands `0..count` in two partitions, all of them decided, logged and published.
    pub fn new(count: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self {
            topics: BTreeMap::from([
                (Topic::Commands as usize, vec![Partition::default(); PARTITIONS as usize]),
                (Topic::Notifications as usize, vec![Partition::default(); OUTPUT_PARTITIONS]),
                (Topic::Rejections as usize, vec![Partition::default(); OUTPUT_PARTITIONS]),
            ]),
            committed: Vec::new(),
            foreign: Vec::new(),
            logs: vec![folder.path().join("activity.db")],
            window_ms: WINDOW_MS,
            rejection_bytes: REJECTION_BYTES,
            deleted_later: None,
            _folder: folder,
        };
        for number in 0..count {
            let partition = (number / 10 % i64::from(PARTITIONS)) as usize;
            let mut record = command(number);
            record.coordinates.partition = partition as i32;
            let commands = &mut world.topic(Topic::Commands)[partition];
            commands.push(record);
            if number % 9 == 0 {
                commands.end += 1;
            }
        }
        world.process();
        world
    }

    pub fn topic(&mut self, topic: Topic) -> &mut Vec<Partition> {
        self.topics.get_mut(&(topic as usize)).unwrap()
    }

    fn options(&self, log: usize) -> LogOptions {
        LogOptions {
            path: self.logs[log].clone(),
            topic: TOPIC.into(),
            synchronous: Synchronous::Normal,
            cache_bytes: 1 << 20,
            window_ms: self.window_ms,
            max_pages: None,
        }
    }

    /// Does what the processor does, without a processor.
    pub fn sample(number: i64) -> Record {
        command(number)
    }

    pub fn process_again(&mut self) {
        self.process();
    }

    fn process(&mut self) {
        let decider = Decider::new(TOPIC, Limits::default());
        let mut log = EventLog::open(&self.options(0)).unwrap();
        let commands = self.topic(Topic::Commands).clone();
        for (partition, number) in commands.iter().zip(0..) {
            for chunk in partition.records.chunks(8) {
                let verdicts: Vec<_> = chunk.iter().map(|record| decider.read(record)).collect();
                let next_offset = verdicts.last().unwrap().coordinates.offset + 1;
                let chunk_of_log = Chunk { partition: number, next_offset, verdicts };
                let settled = log.append(vec![chunk_of_log], &[]).unwrap().remove(0);
                for (record, settled) in chunk.iter().zip(settled) {
                    self.publish(record, &settled.decision);
                }
            }
            self.committed.push(Some(partition.end));
        }
        // The cursor follows the consumer over control records.
        let ends = commands.iter().zip(0..).map(|(partition, number)| Chunk {
            partition: number,
            next_offset: partition.end,
            verdicts: Vec::new(),
        });
        log.append(ends.collect(), &[]).unwrap();
    }

    /// Adds another log, which has only the commands in this range.
    pub fn add_log(&mut self, range: Range<i64>) {
        let path = self.logs[0].with_file_name(format!("more-{}.db", self.logs.len()));
        self.logs.push(path);
        let decider = Decider::new(TOPIC, Limits::default());
        let mut log = EventLog::open(&self.options(self.logs.len() - 1)).unwrap();
        let commands = self.topic(Topic::Commands).clone();
        for (partition, number) in commands.iter().zip(0..) {
            if range.start > 0 {
                let gap =
                    event_log::Gap { first_offset: 0, next_offset: range.start, reason: "a test".into() };
                log.start_partition(number, Some(gap), None).unwrap();
            }
            let verdicts: Vec<_> = partition
                .records
                .iter()
                .filter(|record| range.contains(&record.coordinates.offset))
                .map(|record| decider.read(record))
                .collect();
            let next_offset = range.end.min(partition.end);
            log.append(vec![Chunk { partition: number, next_offset, verdicts }], &[]).unwrap();
        }
    }

    /// Deletes everything below an offset in every partition.
    pub fn delete(&mut self, topic: Topic, below: i64) {
        for partition in self.topic(topic) {
            partition.start = below.min(partition.end);
            partition.records.retain(|record| record.coordinates.offset >= below);
        }
    }

    fn delete_later(&mut self, read: Topic) {
        match &mut self.deleted_later {
            Some((topic, 1, below)) if *topic == read => {
                let below = *below;
                self.deleted_later = None;
                self.delete(read, below);
            }
            Some((topic, readings, _)) if *topic == read => *readings -= 1,
            _ => {}
        }
    }

    fn publish(&mut self, record: &Record, decision: &Decision) {
        match decision {
            Decision::Accepted(event) => {
                for notification in event.notifications("activity-stream", &record.headers) {
                    self.put(Topic::Notifications, notification.record);
                }
            }
            Decision::Duplicate { .. } => {}
            Decision::Rejected(problems) => {
                let rejection = rejection_record(record, TOPIC, problems, self.rejection_bytes);
                self.put(Topic::Rejections, rejection);
            }
        }
    }

    fn put(&mut self, topic: Topic, OutputRecord { key, value, headers }: OutputRecord) {
        let partition = crc32c::crc32c(key.as_deref().unwrap_or_default()) as usize % OUTPUT_PARTITIONS;
        let partition_at = &mut self.topic(topic)[partition];
        let at = Coordinates { partition: partition as i32, offset: 0, timestamp: 0 };
        partition_at.push(Record { coordinates: at, key, value, headers });
    }

    /// A record of a topic, to be changed.
    pub fn record(&mut self, topic: Topic, which: impl Fn(&Record) -> bool) -> &mut Record {
        let partitions = self.topic(topic);
        partitions
            .iter_mut()
            .flat_map(|partition| &mut partition.records)
            .find(|record| which(record))
            .unwrap()
    }

    /// Removes a record, and leaves a hole.
    pub fn take(&mut self, topic: Topic, which: impl Fn(&Record) -> bool) -> Record {
        let taken = self.record(topic, which).clone();
        let partition = &mut self.topic(topic)[taken.coordinates.partition as usize];
        partition.records.retain(|record| record != &taken);
        taken
    }

    /// Changes a log with plain SQL, and updates its counts, so that only the planted fault is left to find.
    pub fn sql(&self, log: usize, statements: &str) {
        self.sql_uncounted(log, statements);
        for table in ["duplicates", "rejections"] {
            let count = format!(
                "UPDATE cursors SET {table} = (SELECT count(*) FROM {table} AS t WHERE t.partition = cursors.partition)"
            );
            self.sql_uncounted(log, &count);
        }
    }

    pub fn sql_uncounted(&self, log: usize, statements: &str) {
        let connection = Connection::open(&self.logs[log]).unwrap();
        connection.execute_batch(statements).unwrap();
        EventLog::update_checksums(&connection);
    }

    pub fn try_verify(&mut self, sizes: Sizes) -> Result<Reported, VerifyError> {
        let logs: Vec<_> = self.logs.iter().map(|path| LogReader::open(path).unwrap()).collect();
        let rules = Rules {
            decider: decider(),
            window_ms: WINDOW_MS,
            source: "activity-stream".into(),
            rejection_bytes: REJECTION_BYTES,
            group: "g".into(),
            notifications_topic: "n".into(),
            rejections_topic: "r".into(),
        };
        let mut reported = Reported::default();
        let summary = verify(self, &logs, &rules, sizes, &mut reported)?;
        assert_eq!(summary.deviations, reported.deviations.len() as u64);
        assert_eq!(summary.unchecked, reported.unchecked.len() as u64);
        assert_eq!(summary.commands, summary.events + summary.duplicates + summary.rejections);
        Ok(Reported { summary, ..reported })
    }

    /// Checks with everything sorted in memory at once, and with many runs: both must report the same.
    #[track_caller]
    pub fn verify(&mut self) -> Reported {
        let at_once = self.try_verify(Sizes::default()).unwrap();
        let in_runs = self.try_verify(TINY).unwrap();
        assert_eq!(at_once.deviations, in_runs.deviations);
        assert_eq!(at_once.unchecked, in_runs.unchecked);
        assert_eq!(at_once.summary, in_runs.summary);
        at_once
    }
}

impl Topics for World {
    fn committed(&mut self) -> Result<Vec<Option<Committed>>, VerifyError> {
        let mark =
            Mark { instance: uuid::Uuid::nil(), clock: 0, rules: RulesHash::of(&decider(), self.window_ms) };
        let whose = |(partition, offset): (usize, &Option<i64>)| {
            let mark = (!self.foreign.contains(&partition)).then_some(mark);
            offset.map(|offset| Committed { offset, mark })
        };
        Ok(self.committed.iter().enumerate().map(whose).collect())
    }

    fn bounds(&mut self, topic: Topic) -> Result<Vec<Bounds>, VerifyError> {
        let partitions = self.topic(topic).iter();
        Ok(partitions.map(|partition| Bounds { start: partition.start, end: partition.end }).collect())
    }

    fn read(
        &mut self,
        topic: Topic,
        wanted: &[(i32, Range<i64>)],
        each: &mut Each<'_>,
    ) -> Result<Vec<Unread>, VerifyError> {
        let unread = self.read_now(topic, wanted, each)?;
        self.delete_later(topic);
        Ok(unread)
    }
}

impl World {
    fn read_now(
        &mut self,
        topic: Topic,
        wanted: &[(i32, Range<i64>)],
        each: &mut Each<'_>,
    ) -> Result<Vec<Unread>, VerifyError> {
        let mut unread = Vec::new();
        for (number, offsets) in wanted {
            let partition = &self.topic(topic)[*number as usize];
            assert!(offsets.is_empty() || offsets.start >= partition.start, "{topic:?} {number} {offsets:?}");
            let end = partition.held_back.unwrap_or(i64::MAX).min(offsets.end);
            for record in &partition.records {
                let is_there = record.coordinates.offset >= partition.start;
                let is_wanted = (offsets.start..end).contains(&record.coordinates.offset);
                if is_there && is_wanted && each(record.clone())? == ControlFlow::Break(()) {
                    return Ok(unread);
                }
            }
            if end < offsets.end {
                unread.push(Unread { partition: *number, offsets: end.max(offsets.start)..offsets.end });
            }
        }
        Ok(unread)
    }
}

/// Appends a byte.
pub fn lengthen(part: &mut Option<Bytes>) {
    *part = Some([&part.take().unwrap_or_default(), &b" "[..]].concat().into());
}
