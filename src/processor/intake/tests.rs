//! What is said, and done, while Kafka does not give what it should.

use std::collections::VecDeque;

use super::*;
use crate::{
    event_log::{LogOptions, Synchronous},
    kafka::{Bounds, log_lines::said_by, reach::Reach},
    processor::Unobserved,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Answers as it is told to.
#[derive(Default)]
struct Scripted {
    polled: VecDeque<Polled>,
    /// Why the group's offsets can't be had; where there is no reason, they can.
    held_up: Option<String>,
    member: bool,
    reach: Option<Reach>,
    asked: u32,
}

impl Source for Scripted {
    type Membership = u32;

    fn poll(&mut self, _: Duration) -> Result<Polled, SourceError> {
        Ok(self.polled.pop_front().unwrap_or(Polled::Nothing))
    }

    fn start(&mut self, _: &[(i32, i64)]) -> Result<(), SourceError> {
        Ok(())
    }

    fn halt(&mut self, _: &[i32]) -> Result<(), SourceError> {
        Ok(())
    }

    fn release(&mut self, _: &[i32]) -> Result<(), SourceError> {
        Ok(())
    }

    fn positions(&mut self) -> Result<Vec<(i32, i64)>, SourceError> {
        Ok(Vec::new())
    }

    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Option<i64>)>, SourceError> {
        match &self.held_up {
            Some(reason) => Err(SourceError::Retriable(reason.clone())),
            None => Ok(partitions.iter().map(|&partition| (partition, Some(0))).collect()),
        }
    }

    fn commit_first(&mut self, _: &[(i32, i64)]) -> Result<(), SourceError> {
        Ok(())
    }

    fn bounds(&mut self, _: i32) -> Result<Bounds, SourceError> {
        Ok(Bounds { start: 0, end: 0 })
    }

    fn known_end(&self, _: i32) -> Option<i64> {
        None
    }

    fn records_at(&mut self, wanted: &[(i32, i64)]) -> Result<Vec<Option<Record>>, SourceError> {
        Ok(vec![None; wanted.len()])
    }

    fn membership(&mut self) -> Option<u32> {
        self.member.then_some(1)
    }

    fn reach(&mut self) -> Option<Reach> {
        self.asked += 1;
        self.reach.clone()
    }
}

/// Asks and tries again at once, and says nothing twice, unless a test wants it.
fn timing() -> Timing {
    Timing { retry: Duration::ZERO, silence: Duration::ZERO, say: HOUR, unjoined: HOUR, ..Timing::default() }
}

struct World {
    intake: Intake<Scripted>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(source: Scripted, timing: Timing) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::open(&LogOptions {
            path: folder.path().join("activity.db"),
            topic: "c".into(),
            synchronous: Synchronous::Normal,
            cache_bytes: 1 << 20,
            window_ms: 1,
            max_pages: None,
        });
        let intake = Intake::new(
            source,
            Arc::new(Ownership::default()),
            Arc::new(Mutex::new(log.unwrap())),
            Arc::new(Unobserved),
            Accept::default(),
            Caps { records: 10, bytes: 1 << 20 },
            timing,
        );
        Self { intake, _folder: folder }
    }

    /// What so many steps say, and how the last one ended.
    fn steps(&mut self, steps: u32) -> (String, Result<(), ProcessorError>) {
        said_by(|| (0..steps).try_for_each(|_| self.intake.step(Duration::ZERO)))
    }
}

fn times(said: &str, what: &str) -> usize {
    said.matches(what).count()
}

fn held_up(say: Duration) -> World {
    let source = Scripted {
        polled: VecDeque::from([Polled::Assigned(vec![3])]),
        held_up: Some("the offsets hang".into()),
        member: true,
        reach: Some(Reach::Reached),
        ..Scripted::default()
    };
    World::new(source, Timing { say, ..timing() })
}

#[test]
fn partitions_that_cannot_be_taken_up_are_told_of_at_intervals_and_when_that_is_over() {
    let mut world = held_up(Duration::ZERO);
    // The first step is told of the partition, each of the others tries to take it up.
    let (said, ended) = world.steps(4);
    ended.unwrap();
    assert_eq!(times(&said, "can't take up partitions yet"), 1, "{said}");
    assert_eq!(times(&said, ": still can't take up partitions; trying again"), 2, "{said}");
    let last = said.lines().last().unwrap();
    for part in ["WARN", "partitions=[3]", "reason=\"the offsets hang\"", "seconds=0", "in the README"] {
        assert!(last.contains(part), "{part}: {last}");
    }
    world.intake.source.held_up = None;
    let (said, ended) = world.steps(3);
    ended.unwrap();
    assert_eq!(times(&said, "can't take up partitions"), 0, "{said}");
    assert_eq!(times(&said, "kafka.partition=3"), 1, "{said}");
    assert!(world.intake.is_settled());
}

#[test]
fn within_the_interval_it_is_said_once() {
    let (said, ended) = held_up(HOUR).steps(50);
    ended.unwrap();
    assert_eq!(times(&said, "can't take up partitions yet"), 1, "{said}");
    assert_eq!(times(&said, ": still can't"), 0, "{said}");
}

#[test]
fn a_client_that_lost_the_brokers_makes_room_for_another() {
    for member in [true, false] {
        let source = Scripted { member, reach: Some(Reach::Lost), ..Scripted::default() };
        let (_, ended) = World::new(source, timing()).steps(1);
        let error = ended.unwrap_err();
        assert!(error.is_retriable(), "{error}");
        assert!(error.to_string().contains("but not this one"), "{error}");
    }
}

#[test]
fn a_group_that_takes_nobody_in_is_told_of_and_tried_with_another_client_at_last() {
    let source = || Scripted { reach: Some(Reach::Reached), ..Scripted::default() };
    let say = Duration::ZERO;
    let (said, ended) = World::new(source(), Timing { say, ..timing() }).steps(3);
    ended.unwrap();
    assert_eq!(times(&said, "still waiting for Kafka"), 3, "{said}");
    assert_eq!(times(&said, "the group has not taken this instance in"), 3, "{said}");
    let (_, ended) = World::new(source(), Timing { unjoined: Duration::ZERO, ..timing() }).steps(1);
    assert!(ended.unwrap_err().is_retriable());
}

#[test]
fn brokers_that_are_away_are_told_of_and_waited_for() {
    let reach = Some(Reach::Away("nobody is at home".into()));
    let source = Scripted { reach, ..Scripted::default() };
    let impatient = Timing { say: Duration::ZERO, unjoined: Duration::ZERO, ..timing() };
    let (said, ended) = World::new(source, impatient).steps(5);
    ended.unwrap();
    assert_eq!(times(&said, "reason=\"nobody is at home\""), 5, "{said}");
}

#[test]
fn a_member_of_a_quiet_topic_says_nothing_and_nobody_is_asked_while_something_arrives() {
    let impatient = Timing { say: Duration::ZERO, unjoined: Duration::ZERO, ..timing() };
    let source = Scripted { member: true, reach: Some(Reach::Reached), ..Scripted::default() };
    let mut world = World::new(source, impatient);
    let (said, ended) = world.steps(5);
    ended.unwrap();
    assert_eq!(said, "");
    assert_eq!(world.intake.source.asked, 5);
    // With an hour's patience, whatever arrives begins it anew.
    world.intake.timing.silence = HOUR;
    for polled in [Polled::Assigned(Vec::new()), Polled::Revoked(Vec::new())] {
        world.intake.silence = Silence::begin(Duration::ZERO);
        world.intake.source.polled.push_back(polled);
        // The first step still asks, at its beginning.
        world.steps(1).1.unwrap();
        let asked = world.intake.source.asked;
        world.steps(5).1.unwrap();
        assert_eq!(world.intake.source.asked, asked);
    }
    // What is lost is no sign of anybody.
    world.intake.silence = Silence::begin(Duration::ZERO);
    world.intake.source.reach = None;
    world.intake.source.polled.push_back(Polled::Lost(Vec::new()));
    world.steps(1).1.unwrap();
    let asked = world.intake.source.asked;
    world.steps(5).1.unwrap();
    assert_eq!(world.intake.source.asked, asked + 5);
}
