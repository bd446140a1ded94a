//! The memory of `verify` does not grow with the topics: counts every allocation, on topics that are generated while they
//! are read.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
};

use contract::{Coordinates, Decider, Limits, Reading, Record, rejection_record};
use kafka::{
    Bounds,
    mark::{Committed, Mark, RulesHash},
    scan::Unread,
};
use verify::{Deviation, Each, Report, Rules, Sizes, Summary, Topic, Topics, Unchecked, VerifyError, verify};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all of it is the system's allocator, beside which numbers are kept.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TOPIC: &str = "activity.commands";

/// A number of commands in one partition, nine of ten notified, and what follows from them.
struct Made {
    commands: i64,
    /// Whether every record of the output is another one than it should be.
    altered: bool,
}

fn command(offset: i64) -> Record {
    let value = match offset % 10 {
        0 => r#"{"objectType":"case"}"#.to_owned(),
        _ => format!(
            r#"{{"objectType":"case","objectId":"{offset}","targets":[{{"targetId":"anna","notify":true}}]}}"#
        ),
    };
    let coordinates = Coordinates { partition: 0, offset, timestamp: 1_700_000_000_000 + offset };
    Record { coordinates, key: None, value: Some(value.into()), headers: Vec::new() }
}

impl Made {
    /// The one record that follows from a command; its offset is the command's.
    fn output(&self, topic: Topic, decider: &Decider, offset: i64) -> Option<Record> {
        let command = command(offset);
        let output = match (topic, decider.read(&command).reading) {
            (Topic::Notifications, Reading::Valid { event, .. }) => {
                event.notifications("s", &[]).next().map(|notification| notification.record)?
            }
            (Topic::Rejections, Reading::Rejected(problems)) => {
                rejection_record(&command, TOPIC, &problems, 1 << 20)
            }
            _ => return None,
        };
        let key = if self.altered { Some("x".into()) } else { output.key };
        Some(Record { coordinates: command.coordinates, key, value: output.value, headers: output.headers })
    }
}

impl Topics for Made {
    fn committed(&mut self) -> Result<Vec<Option<Committed>>, VerifyError> {
        let mark = Mark { instance: uuid::Uuid::nil(), clock: 0, rules: RulesHash(0) };
        Ok(vec![Some(Committed { offset: self.commands, mark: Some(mark) })])
    }

    fn bounds(&mut self, _: Topic) -> Result<Vec<Bounds>, VerifyError> {
        Ok(vec![Bounds { start: 0, end: self.commands }])
    }

    fn read(
        &mut self,
        topic: Topic,
        wanted: &[(i32, Range<i64>)],
        each: &mut Each<'_>,
    ) -> Result<Vec<Unread>, VerifyError> {
        let decider = Decider::new(TOPIC, Limits::default());
        for offset in wanted.iter().flat_map(|(_, offsets)| offsets.clone()) {
            let record = match topic {
                Topic::Commands => Some(command(offset)),
                _ => self.output(topic, &decider, offset),
            };
            if let Some(record) = record
                && each(record)?.is_break()
            {
                break;
            }
        }
        Ok(Vec::new())
    }
}

struct Silent;

impl Report for Silent {
    fn deviation(&mut self, _: &Deviation) -> Result<(), VerifyError> {
        Ok(())
    }

    fn unchecked(&mut self, _: &Unchecked) -> Result<(), VerifyError> {
        Ok(())
    }

    fn ahead(&mut self, _: u64) {}

    fn advanced(&mut self, _: u64) {}
}

/// What is found, and how many bytes more than before were held at once.
fn measure(commands: i64, altered: bool) -> (Summary, usize) {
    let rules = Rules {
        decider: Decider::new(TOPIC, Limits::default()),
        window_ms: 1000,
        source: "s".into(),
        rejection_bytes: 1 << 20,
        group: "g".into(),
        notifications_topic: "n".into(),
        rejections_topic: "r".into(),
    };
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let sizes = Sizes { records: 300 };
    let summary = verify(&mut Made { commands, altered }, &[], &rules, sizes, &mut Silent).unwrap();
    (summary, PEAK.load(Ordering::Relaxed) - before)
}

/// One test, so that no other one's allocations are counted.
#[test]
fn memory_does_not_grow_with_the_topics() {
    const FEW: i64 = 1_000;
    for altered in [false, true] {
        let (few, small) = measure(FEW, altered);
        let (many, large) = measure(4 * FEW, altered);
        assert_eq!((few.commands, many.commands), (1_000, 4_000));
        assert_eq!((many.notifications, many.rejections), (3_600, 400));
        // That no log was given is one; every record that is altered is another one.
        assert_eq!(many.deviations, if altered { 4_001 } else { 1 });
        println!("altered: {altered}; {FEW} commands: {small} bytes, {} commands: {large} bytes", 4 * FEW);
        assert!(small > 1_000, "nothing was counted");
        assert!(large < small + small / 2, "{small} bytes, then {large}");
    }
}
