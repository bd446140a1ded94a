//! What the intake reports and does while Kafka misbehaves.

use std::collections::VecDeque;

use contract::Coordinates;
use kafka::{
    EndOffsets, Ends,
    liveness::Probe,
    mark::{Committed, Mark, NextOffset, RulesHash},
};
use testing::said_by;

use super::*;
use crate::{
    End,
    ownership::{self, Publication},
    scripted::{self, Scripted},
    start::Accept,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Probes and retries at once, and logs nothing twice, unless a test wants it.
fn timing() -> Timing {
    Timing { retry: Duration::ZERO, silence: Duration::ZERO, say: HOUR, unjoined: HOUR, ..Timing::default() }
}

/// What was reported to the observer.
#[derive(Default)]
struct ReportedByIntake {
    positions: Mutex<BTreeMap<i32, (i64, Option<i64>)>>,
    released: Mutex<Vec<i32>>,
}

impl Observer for ReportedByIntake {
    fn position(&self, partition: i32, published: i64, end: Option<End>) {
        let end = end.map(|end| end.offsets.high_watermark);
        self.positions.lock().unwrap().insert(partition, (published, end));
    }

    fn released(&self, partition: i32) {
        self.released.lock().unwrap().push(partition);
    }
}

struct World {
    intake: Intake<Scripted>,
    publication: Publication<u32>,
    reported: Arc<ReportedByIntake>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(source: Scripted, timing: Timing) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let reported = Arc::new(ReportedByIntake::default());
        let (owner, publication) = ownership::handles();
        let intake = Intake::new(
            source,
            owner,
            scripted::log(folder.path()),
            Arc::clone(&reported) as Arc<dyn Observer>,
            Arc::default(),
            IntakeOptions {
                terms: scripted::terms(),
                caps: Caps { records: 10, bytes: 1 << 20 },
                timing,
                role: Role::Member(None),
            },
        );
        Self { intake, publication, reported, _folder: folder }
    }

    /// Why it processes no commands, if it does not.
    fn waits_for(&mut self) -> String {
        self.intake.waits_for().unwrap_or_default()
    }

    /// What this number of steps log, and how the last one ended.
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
        reach: Some(Probe::Reached),
        ..Scripted::default()
    };
    World::new(source, Timing { say, ..timing() })
}

#[test]
fn partitions_that_cannot_start_are_logged_at_intervals_and_once_they_start() {
    let mut world = held_up(Duration::ZERO);
    // The first step gets the assignment; each of the others tries to start the partition.
    let (said, ended) = world.steps(4);
    ended.unwrap();
    assert_eq!(times(&said, "cannot start these partitions yet"), 1, "{said}");
    assert_eq!(times(&said, ": still cannot start these partitions; trying again"), 2, "{said}");
    let last = said.lines().last().unwrap();
    for part in
        ["WARN", "partitions=[3]", "reason=\"the offsets hang\"", "seconds=0", "in docs/troubleshooting.md"]
    {
        assert!(last.contains(part), "{part}: {last}");
    }
    assert_eq!(world.waits_for(), "starting partitions: partition 3: the offsets hang");
    world.intake.source.held_up = None;
    let (said, ended) = world.steps(3);
    ended.unwrap();
    assert_eq!(times(&said, "cannot start these partitions"), 0, "{said}");
    assert_eq!(times(&said, "kafka.partition=3"), 1, "{said}");
    assert!(world.intake.is_settled());
    assert_eq!(world.waits_for(), "");
}

#[test]
fn within_the_interval_the_warning_is_logged_once() {
    let (said, ended) = held_up(HOUR).steps(50);
    ended.unwrap();
    assert_eq!(times(&said, "cannot start these partitions yet"), 1, "{said}");
    assert_eq!(times(&said, ": still cannot"), 0, "{said}");
}

/// If it still counted as revoked, the new assignment would be released with the rest.
#[test]
fn a_partition_lost_while_draining_and_assigned_again_is_kept() {
    let source = Scripted { polled: [Polled::Assigned(vec![3, 4])].into(), ..Scripted::default() };
    let mut world = World::new(source, timing());
    world.steps(2).1.unwrap();
    let running = world.intake.assignments.running_mut(4).unwrap();
    // A batch is in flight.
    running.sent = 1;
    let epoch = running.epoch;
    world.intake.source.polled =
        [Polled::Revoked(vec![3, 4]), Polled::Lost(vec![3]), Polled::Assigned(vec![3])].into();
    world.steps(4).1.unwrap();
    assert_eq!(world.intake.held(), 2, "one drains");
    world.publication.set_done(4, epoch, 1);
    world.steps(2).1.unwrap();
    assert_eq!(world.intake.held(), 1);
}

/// Its gathered records are dropped, so a batch up to its position would skip them.
#[test]
fn no_batch_is_cut_of_a_partition_that_drains() {
    let record = |offset| {
        let coordinates = Coordinates { partition: 3, offset, timestamp: 1 };
        Polled::Record(Record { coordinates, key: None, value: None, headers: Vec::new() })
    };
    let source = Scripted { polled: [Polled::Assigned(vec![3])].into(), ..Scripted::default() };
    let mut world = World::new(source, timing());
    world.steps(2).1.unwrap();
    world.intake.source.polled = [record(0), record(1), record(2)].into();
    world.intake.source.positions = vec![(3, 1)];
    world.steps(1).1.unwrap();
    assert_eq!(world.intake.take_batch().unwrap().len(), 1);
    world.steps(2).1.unwrap();
    world.intake.source.positions = vec![(3, 3)];
    world.intake.source.polled = [Polled::Revoked(vec![3])].into();
    world.steps(1).1.unwrap();
    assert_eq!(world.intake.held(), 1, "it drains");
    assert!(world.intake.take_batch().unwrap().is_empty());
}

#[test]
fn a_client_that_lost_the_brokers_makes_room_for_another() {
    for member in [true, false] {
        let source = Scripted { member, reach: Some(Probe::ClientStuck), ..Scripted::default() };
        let (_, ended) = World::new(source, timing()).steps(1);
        let error = ended.unwrap_err();
        assert!(error.is_retriable(), "{error}");
        assert!(error.to_string().contains("but not this one"), "{error}");
    }
}

#[test]
fn a_group_that_admits_nobody_is_logged_and_retried_with_another_client() {
    let source = || Scripted { reach: Some(Probe::Reached), ..Scripted::default() };
    let say = Duration::ZERO;
    let mut world = World::new(source(), Timing { say, ..timing() });
    assert_eq!(world.waits_for(), "waiting to join the consumer group");
    let (said, ended) = world.steps(3);
    ended.unwrap();
    assert_eq!(
        world.waits_for(),
        "the brokers answer, but this instance has not joined the consumer group yet"
    );
    assert_eq!(times(&said, "still waiting for Kafka"), 3, "{said}");
    assert_eq!(times(&said, "has not joined the consumer group yet"), 3, "{said}");
    let (_, ended) = World::new(source(), Timing { unjoined: Duration::ZERO, ..timing() }).steps(1);
    assert!(ended.unwrap_err().is_retriable());
}

#[test]
fn unreachable_brokers_are_logged_and_waited_for() {
    let reach = Some(Probe::Unreachable("nobody is at home".into()));
    let source = Scripted { reach, ..Scripted::default() };
    let impatient = Timing { say: Duration::ZERO, unjoined: Duration::ZERO, ..timing() };
    let (said, ended) = World::new(source, impatient).steps(5);
    ended.unwrap();
    assert_eq!(times(&said, "reason=\"nobody is at home\""), 5, "{said}");
}

/// Neither silent nor due to be probed, so that the state stays as it is.
fn patient(world: &mut World) {
    world.intake.timing.silence = HOUR;
    world.intake.liveness.heard();
    world.steps(1).1.unwrap();
}

#[test]
fn it_is_ready_again_once_the_brokers_are_heard() {
    let away =
        || Scripted { member: true, reach: Some(Probe::Unreachable("nobody".into())), ..Scripted::default() };
    let sign = |world: &mut World| world.intake.source.polled.push_back(Polled::Revoked(Vec::new()));
    let answer = |world: &mut World| world.intake.source.reach = Some(Probe::Reached);
    for end in [&sign as &dyn Fn(&mut World), &answer] {
        let mut world = World::new(away(), Timing { say: Duration::ZERO, ..timing() });
        assert_eq!(world.waits_for(), "", "a member without partitions stands by");
        world.steps(2).1.unwrap();
        assert_eq!(world.waits_for(), "nobody");
        end(&mut world);
        // The first step hears the brokers, the second acts on it; an answer to a probe is acted on at once.
        let (_, ended) = world.steps(1);
        ended.unwrap();
        assert_eq!(world.waits_for(), "");
        patient(&mut world);
        let (said, ended) = world.steps(1);
        ended.unwrap();
        assert_eq!(said, "");
    }
}

#[test]
fn the_end_of_a_wait_is_logged_if_the_wait_was() {
    for (say, times_logged) in [(Duration::ZERO, 1), (HOUR, 0)] {
        let reach = Some(Probe::Unreachable("nobody".into()));
        let mut world =
            World::new(Scripted { member: true, reach, ..Scripted::default() }, Timing { say, ..timing() });
        world.steps(2).1.unwrap();
        world.intake.source.reach = Some(Probe::Reached);
        let (said, ended) = world.steps(5);
        ended.unwrap();
        assert_eq!(times(&said, "INFO"), times_logged, "{said}");
        assert_eq!(times(&said, "Kafka answers again seconds=0"), times_logged, "{said}");
    }
}

#[test]
fn a_publisher_without_a_producer_is_waited_for() {
    let mut world = World::new(Scripted { member: true, ..Scripted::default() }, timing());
    world.publication.set_waits_for(Some("no producer".into()));
    assert_eq!(world.waits_for(), "no producer");
    world.publication.set_waits_for(None);
    assert_eq!(world.waits_for(), "");
}

#[test]
fn a_member_of_a_quiet_topic_says_nothing_and_nobody_is_asked_while_something_arrives() {
    let impatient = Timing { say: Duration::ZERO, unjoined: Duration::ZERO, ..timing() };
    let source = Scripted { member: true, reach: Some(Probe::Reached), ..Scripted::default() };
    let mut world = World::new(source, impatient);
    let (said, ended) = world.steps(5);
    ended.unwrap();
    assert_eq!(said, "");
    assert_eq!(world.intake.source.asked, 5);
    // With an hour's patience, whatever arrives restarts the wait.
    world.intake.timing.silence = HOUR;
    for polled in [Polled::Assigned(Vec::new()), Polled::Revoked(Vec::new())] {
        world.intake.liveness = Liveness::begin(Duration::ZERO);
        world.intake.source.polled.push_back(polled);
        // The first step still probes, when it begins.
        world.steps(1).1.unwrap();
        let asked = world.intake.source.asked;
        world.steps(5).1.unwrap();
        assert_eq!(world.intake.source.asked, asked);
    }
    // A loss does not mean that anybody was heard.
    world.intake.liveness = Liveness::begin(Duration::ZERO);
    world.intake.source.reach = None;
    world.intake.source.polled.push_back(Polled::Lost(Vec::new()));
    world.steps(1).1.unwrap();
    let asked = world.intake.source.asked;
    world.steps(5).1.unwrap();
    assert_eq!(world.intake.source.asked, asked + 5);
}

fn five_each() -> Vec<(i32, EndOffsets)> {
    [3, 4].map(|partition| (partition, EndOffsets::all_stable(5))).into()
}

/// Two partitions, each with five records.
fn lagging() -> World {
    let ends = Ends { offsets: five_each(), missing: Some(Vec::new()), ..Ends::default() };
    let source = Scripted {
        polled: VecDeque::from([Polled::Assigned(vec![3, 4])]),
        member: true,
        ends: Some(ends),
        ..Scripted::default()
    };
    let timing =
        Timing { ends: Duration::ZERO, positions: Duration::ZERO, stall: Duration::ZERO, ..timing() };
    let mut world = World::new(source, timing);
    world.steps(3).1.unwrap();
    world
}

/// A failure may end the session before the next look at its positions.
#[test]
fn a_position_is_reported_as_soon_as_the_partition_is_held() {
    let source = Scripted { polled: [Polled::Assigned(vec![3])].into(), member: true, ..Scripted::default() };
    let mut world = World::new(source, Timing { positions: HOUR, ..timing() });
    world.steps(2).1.unwrap();
    assert_eq!(*world.reported.positions.lock().unwrap(), [(3, (0, Some(0)))].into());
}

#[test]
fn a_position_has_the_published_offset_and_the_topics_end() {
    let mut world = lagging();
    assert_eq!(*world.reported.positions.lock().unwrap(), [(3, (0, Some(5))), (4, (0, Some(5)))].into());
    let epoch = world.publication.held()[&3].epoch;
    world.publication.set_published(3, epoch, 2);
    world.intake.source.ends = None;
    world.steps(1).1.unwrap();
    assert_eq!(*world.reported.positions.lock().unwrap(), [(3, (2, Some(5))), (4, (0, Some(5)))].into());
}

#[test]
fn reports_a_stalled_partition_with_the_clients_last_error() {
    let mut world = lagging();
    let epochs = [3, 4].map(|partition| world.publication.held()[&partition].epoch);
    world.publication.set_published(3, epochs[0], 5);
    world.publication.set_done(3, epochs[0], 5);
    world.intake.source.error = Some("bad compression".into());
    world.steps(1).1.unwrap();
    let said = world.waits_for();
    assert!(
        said.starts_with("partition 4 is stalled at offset 0 for 0 s, and the topic ends at 5"),
        "{said}"
    );
    assert!(said.ends_with("; last error: bad compression"), "{said}");
    world.publication.set_published(4, epochs[1], 5);
    world.publication.set_done(4, epochs[1], 5);
    world.steps(1).1.unwrap();
    assert_eq!(world.waits_for(), "");
}

#[test]
fn an_output_topic_that_is_gone_makes_it_wait() {
    let mut world = lagging();
    world.intake.timing.stall = HOUR;
    world.intake.source.ends = Some(Ends { missing: Some(vec!["n".into()]), ..Ends::default() });
    world.steps(1).1.unwrap();
    assert!(world.waits_for().starts_with("the topic 'n' does not exist"), "{}", world.waits_for());
    world.intake.source.ends = Some(Ends { missing: Some(Vec::new()), ..Ends::default() });
    world.steps(1).1.unwrap();
    assert_eq!(world.waits_for(), "");
}

#[test]
fn a_failed_publisher_makes_it_wait_until_something_is_published() {
    let mut world = lagging();
    world.intake.timing.stall = HOUR;
    world.publication.set_error("refused".into());
    world.publication.want_restart();
    assert_eq!(world.waits_for(), "restarting from the committed cursors");
    world.intake.source.ends = None;
    world.steps(1).1.unwrap();
    // The topic has nothing below the ends that it first reported, so nothing is left.
    assert_eq!(world.waits_for(), "");
    let ends = Ends { offsets: five_each(), ..Ends::default() };
    world.intake.watch.progress().ended(Instant::now(), ends);
    world.publication.set_error("refused".into());
    world.intake.watch.progress().hear(Instant::now(), "refused".into());
    world.intake.watch.progress().interrupted();
    assert_eq!(world.waits_for(), "nothing was published since an error: refused");
    for partition in [3, 4] {
        let epoch = world.publication.held()[&partition].epoch;
        world.publication.set_published(partition, epoch, 1);
    }
    world.steps(1).1.unwrap();
    assert_eq!(world.waits_for(), "");
}

#[test]
fn a_position_stays_reported_until_another_instance_has_the_partition() {
    let mut world = lagging();
    let released = |world: &World| std::mem::take(&mut *world.reported.released.lock().unwrap());
    world.intake.source.polled.push_back(Polled::Lost(vec![3, 4]));
    world.steps(1).1.unwrap();
    assert!(released(&world).is_empty());
    world.intake.source.polled.push_back(Polled::Assigned(vec![3]));
    world.steps(1).1.unwrap();
    assert_eq!(released(&world), [4]);
    world.intake.source.polled.push_back(Polled::Revoked(vec![3]));
    world.steps(1).1.unwrap();
    assert_eq!(released(&world), [3]);
}

#[test]
fn an_offset_committed_under_other_limits_is_logged_as_a_warning() {
    let start = |rules| {
        let mark = Mark { instance: uuid::Uuid::from_u128(5), clock: 0, rules: RulesHash(rules) };
        let source = Scripted {
            polled: VecDeque::from([Polled::Assigned(vec![3])]),
            committed: Some(Committed { offset: 0, mark: Some(mark) }),
            member: true,
            ..Scripted::default()
        };
        let (said, ended) = World::new(source, timing()).steps(3);
        ended.unwrap();
        said
    };
    let said = start(8);
    assert_eq!(times(&said, "committed under other limits"), 1, "{said}");
    let facts = "committed_by=00000000-0000-0000-0000-000000000005 rules=00000008 own_rules=00000007";
    assert!(said.contains(facts) && said.contains("kafka.partition=3"), "{said}");
    assert_eq!(times(&start(7), "other limits"), 0);
}

#[test]
fn an_accepted_loss_is_logged_as_a_warning() {
    let source = Scripted {
        polled: VecDeque::from([Polled::Assigned(vec![3])]),
        committed: Some(Committed { offset: 0, mark: None }),
        member: true,
        ..Scripted::default()
    };
    let mut world = World::new(source, timing());
    world.intake.terms.accept = Accept { group_offset: true, ..Accept::default() };
    let (said, ended) = world.steps(3);
    ended.unwrap();
    assert_eq!(times(&said, "starting where it would have stopped"), 1, "{said}");
    assert!(said.contains("accepted=\"group-offset\"") && said.contains("was not committed by"), "{said}");
}

/// Whoever takes it over from this instance knows by that whose transaction may be open.
#[test]
fn a_partition_of_another_instance_is_marked_before_anything_of_it_is_published() {
    let first = |instance| {
        let mark = Some(Mark { instance, clock: 5, rules: RulesHash(7) });
        let source = Scripted {
            polled: VecDeque::from([Polled::Assigned(vec![3])]),
            committed: Some(Committed { offset: 4, mark }),
            end: 9,
            member: true,
            ..Scripted::default()
        };
        let mut world = World::new(source, timing());
        world.steps(2).1.unwrap();
        world.intake.source.first
    };
    let own = scripted::terms().marker;
    assert_eq!(first(own.instance), []);
    let marked = NextOffset { partition: 3, offset: 4, mark: own.mark(5) };
    assert_eq!(first(uuid::Uuid::from_u128(1)), [marked]);
}

/// A kill may come between the two, and the next start then finds an offset with a mark.
#[test]
fn an_accepted_loss_is_recorded_once_and_before_its_offset_is_committed() {
    let away = || SourceError::Retriable("away".into());
    let source = Scripted {
        polled: VecDeque::from([Polled::Assigned(vec![3])]),
        committed: Some(Committed { offset: 0, mark: None }),
        member: true,
        commits: VecDeque::from([away(), away(), SourceError::Fatal("killed".into())]),
        ..Scripted::default()
    };
    let mut world = World::new(source, timing());
    world.intake.terms.accept = Accept { group_offset: true, ..Accept::default() };
    let recorded = |world: &World| {
        let reader = world.intake.log.lock().unwrap().reader().unwrap();
        let noted = reader.stats().unwrap().interventions;
        noted.into_iter().map(|(partition, noted)| (partition, noted.flag)).collect::<Vec<_>>()
    };
    let once = [(3, "group-offset".to_owned())];
    let (said, ended) = world.steps(2);
    ended.unwrap();
    assert_eq!(world.intake.source.commits.len(), 2, "the offset is not committed");
    assert_eq!(recorded(&world), once);
    assert_eq!(times(&said, "where it would have stopped"), 1, "{said}");
    let (said, ended) = world.steps(2);
    assert!(matches!(ended, Err(ProcessorError::Source(SourceError::Fatal(_)))), "{ended:?}");
    assert_eq!((recorded(&world), times(&said, "where it would have stopped")), (once.to_vec(), 0));
    // The brokers have stored it, and the next attempt finds it: there is nothing left to accept.
    world.intake.source.committed = None;
    let (said, ended) = world.steps(2);
    ended.unwrap();
    assert!(world.intake.is_settled());
    assert_eq!((recorded(&world), times(&said, "where it would have stopped")), (once.to_vec(), 0));
    let cursor = world.intake.log.lock().unwrap().cursor(3).unwrap().unwrap();
    assert_eq!(cursor.published_seen, Some(0), "the accepted offset counts");
}

#[test]
fn a_partition_that_cannot_start_keeps_no_other_back() {
    let without_a_leader = Scripted { leaderless: [3].into(), ..Scripted::default() };
    let pending = Scripted { pending: [3].into(), ..Scripted::default() };
    let late = "the group's committed offset can't be had in time: a transaction that moves it has not ended";
    for (source, reason) in [(without_a_leader, "no leader"), (pending, late)] {
        let polled = VecDeque::from([Polled::Assigned(vec![3, 4])]);
        let mut world = World::new(Scripted { polled, member: true, ..source }, timing());
        let (said, ended) = world.steps(3);
        ended.unwrap();
        assert_eq!((world.intake.is_running(3), world.intake.is_running(4)), (false, true), "{said}");
        assert!(said.contains("partitions=[3]") && !said.contains("partitions=[3, 4] reason"), "{said}");
        assert_eq!(world.waits_for(), format!("starting partitions: partition 3: {reason}"));
        world.intake.source.leaderless.clear();
        world.intake.source.pending.clear();
        world.steps(2).1.unwrap();
        assert!(world.intake.is_running(3));
        assert_eq!(world.waits_for(), "");
    }
}
