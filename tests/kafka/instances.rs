//! Two and three instances share the work while they are started, stopped, killed and frozen under load.

use std::{fmt, iter, thread, time::Duration};

use fastrand::Rng;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{
    broker, group, logs,
    members::Members,
    process::{Joining, PATIENCE, SESSION_MS, Setup},
    said::{ASSIGNED, LOST},
    seed, wait_until,
};

/// Beyond the session: others take over, and abort the transaction that was open.
const ZOMBIE: Duration = Duration::from_millis(SESSION_MS + 2_000);
/// Beyond the transaction time-out of 10 s too: the broker has undone the transaction itself.
const LONG_ZOMBIE: Duration = Duration::from_millis(13_000);
pub const PER_SECOND: u32 = 500;
/// What the publisher says where it was refused something.
const REFUSED: &str = "making a new producer error=";
/// And where that is because the broker has ended its transaction: only what was in the middle of one hears that.
const FENCED: &str = "making a new producer error=fenced";
/// A transaction of a process that runs has ended long before.
const LOOK: Duration = Duration::from_millis(200);
/// As a rule the first or the second freeze is in the middle of a transaction.
const MOST_FREEZES: usize = 100;

/// How one of several instances is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Stop,
    Kill,
    Freeze,
    LongFreeze,
}

/// The number of each kind. Their order is chance; that each is there is not.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub stops: usize,
    pub kills: usize,
    pub freezes: usize,
    pub long_freezes: usize,
}

impl Faults {
    fn shuffled(self, random: &mut Rng) -> Vec<Fault> {
        let Self { stops, kills, freezes, long_freezes } = self;
        let counts = [
            (Fault::Stop, stops),
            (Fault::Kill, kills),
            (Fault::Freeze, freezes),
            (Fault::LongFreeze, long_freezes),
        ];
        assert!(counts.iter().all(|(_, count)| *count > 0), "{self:?}: a kind is missing");
        let mut all: Vec<Fault> =
            counts.into_iter().flat_map(|(fault, count)| iter::repeat_n(fault, count)).collect();
        random.shuffle(&mut all);
        all
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stops, kills, freezes, long_freezes } = self;
        let all = freezes + long_freezes;
        write!(
            f,
            "{stops} stops, {kills} kills, {all} freezes, {long_freezes} longer than a transaction may last"
        )
    }
}

/// One that holds nothing yet can't lose it.
#[track_caller]
fn await_partitions(members: &mut Members<'_>, index: usize) {
    let name = *members.running.keys().nth(index).expect("a running instance");
    wait_until("an instance to have partitions, before it is frozen", || {
        members.assert_running();
        group::assignments(members.setup).get(name).is_some_and(|held| !held.is_empty())
    });
}

/// While one is frozen, others take its partitions over; then it finds itself replaced.
fn freeze(members: &mut Members<'_>, index: usize, duration: Duration) {
    let frozen = members.running.values_mut().nth(index).expect("a running instance");
    frozen.freeze();
    thread::sleep(duration);
    frozen.thaw();
}

fn disturb(members: &mut Members<'_>, index: usize, fault: Fault) {
    match fault {
        Fault::Stop => drop(members.take(index).stop()),
        Fault::Kill => members.take(index).kill(),
        Fault::Freeze => {
            await_partitions(members, index);
            freeze(members, index, ZOMBIE);
        }
        Fault::LongFreeze => {
            await_partitions(members, index);
            freeze(members, index, LONG_ZOMBIE);
        }
    }
}

/// One instance after the other is disturbed, never the last one that runs; in between, those that ended are started.
pub fn come_and_go(test: &str, joining: Joining, names: &[&'static str], faults: Faults) {
    let seed = seed(test);
    let mut random = Rng::with_seed(seed);
    let setup = Setup::new(test, &broker::shared(), 6);
    setup.join_as(joining);
    let mut members = Members::start_all(&setup, names, seed, PER_SECOND);
    let mut starts = names.len();
    for fault in faults.shuffled(&mut random) {
        members.advance(random.u64(1..1_000));
        while !members.stopped.is_empty() && (members.running.len() == 1 || random.u8(0..10) < 6) {
            members.start(random.usize(..members.stopped.len()));
            starts += 1;
            members.advance(random.u64(1..1_000));
        }
        let index = random.usize(..members.running.len());
        disturb(&mut members, index, fault);
    }
    starts += members.stopped.len();
    members.finish(test, &format!("{starts} starts, {faults}"));
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn two_instances_come_and_go() {
    let faults = Faults { stops: 3, kills: 4, freezes: 2, long_freezes: 1 };
    come_and_go("two", Joining::USUAL, &["anna", "bo"], faults);
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn three_instances_come_and_go() {
    let faults = Faults { stops: 3, kills: 4, freezes: 3, long_freezes: 1 };
    come_and_go("three", Joining::USUAL, &["anna", "bo", "carl"], faults);
}

/// Whether it reads its partitions: frozen before that, librdkafka reports them as revoked later, and not as lost. And whether
/// its log has what is published of them, so that what is published of them is its own work.
fn publishes(members: &Members<'_>, name: &str) -> bool {
    let held = group::assignments(members.setup).remove(name).unwrap_or_default();
    let (Some(committed), cursors) = (members.progress.committed(), logs::cursors(&members.setup.log(name)))
    else {
        return false;
    };
    let is_ahead = |partition: &i32| match (cursors.get(partition), committed.get(partition)) {
        (Some((_, logged)), Some(published)) => logged >= published,
        _ => false,
    };
    let said = members.running[name].stderr();
    let last = |what: &str, partition: &i32| said.rfind(&format!(" {what} kafka.partition={partition} "));
    let is_read = |partition: &i32| last("reading", partition) > last("following", partition);
    !held.is_empty() && held.iter().all(is_read) && held.iter().all(is_ahead)
}

/// The ends of the notifications topic: of all records, and of those before the first open transaction.
pub struct Ends {
    all: BaseConsumer,
    committed: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Ends {
    pub fn of(setup: &Setup) -> Self {
        let client = |isolation| -> BaseConsumer {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &setup.servers).set("isolation.level", isolation);
            config.create().expect("a client")
        };
        let (all, committed) = (client("read_uncommitted"), client("read_committed"));
        Self { all, committed, topic: setup.names.notifications.clone(), partitions: setup.partitions }
    }

    fn ask(&self, client: &BaseConsumer) -> Vec<i64> {
        let end = |partition| client.fetch_watermarks(&self.topic, partition, PATIENCE).expect("an answer").1;
        (0..self.partitions).map(end).collect()
    }

    /// Waits until no transaction is open in these partitions: the brokers report its end before each of them has its mark.
    #[track_caller]
    pub fn await_marks(&self, partitions: &[usize]) {
        wait_until("the marks of what has ended", || {
            let (committed, all) = (self.ask(&self.committed), self.ask(&self.all));
            partitions.iter().all(|&partition| committed[partition] == all[partition])
        });
    }

    /// Whether a transaction has records there and does not end, as that of a frozen process.
    fn are_held_back(&self) -> bool {
        let committed = self.ask(&self.committed);
        thread::sleep(LOOK);
        let (all, later) = (self.ask(&self.all), self.ask(&self.committed));
        (0..committed.len()).any(|index| committed[index] == later[index] && later[index] < all[index])
    }
}

/// Whether it takes part again after it found out that its partitions were lost.
fn rejoined(said: &str) -> bool {
    said.split_once(LOST).is_some_and(|(_, since)| since.contains(ASSIGNED))
}

/// An instance that is frozen until its session and its transaction have timed out resumes in the middle of publishing: the
/// output is refused, it releases its partitions, and rejoins on its own; also the second time.
pub fn is_replaced_and_recovers(test: &str, joining: Joining) {
    let setup = Setup::new(test, &broker::shared(), 6);
    setup.join_as(joining);
    let ends = Ends::of(&setup);
    let mut members = Members::start_all(&setup, &["anna", "bo"], seed(test), PER_SECOND);
    let (mut freezes, mut long_freezes, mut refused, mut fenced) = (0, 0, 0, 0);
    while refused < 2 || fenced < 1 {
        assert!(
            freezes < MOST_FREEZES,
            "of {freezes} freezes {long_freezes} were in the middle of a transaction, {refused} were refused what \
             they went on publishing, {fenced} by a fencing"
        );
        wait_until("both to have partitions, and the zombie to be at work", || {
            members.share_all() && publishes(&members, "anna")
        });
        // A freeze between two transactions leaves nothing that could be refused, and is broken off.
        let before = members.running["anna"].stderr().len();
        let frozen = members.running.get_mut("anna").expect("a running instance");
        frozen.freeze();
        let is_amid = ends.are_held_back();
        if is_amid {
            thread::sleep(LONG_ZOMBIE);
        }
        frozen.thaw();
        freezes += 1;
        if !is_amid {
            continue;
        }
        long_freezes += 1;
        let mut said = String::new();
        wait_until("the zombie to find itself replaced, and to take part again", || {
            members.assert_running();
            members.running["anna"].stderr()[before..].clone_into(&mut said);
            rejoined(&said)
        });
        refused += usize::from(said.contains(REFUSED));
        fenced += usize::from(said.contains(FENCED));
    }
    let done = format!(
        "{freezes} freezes, {long_freezes} of them in the middle of publishing, {refused} times refused what it went \
         on publishing, {fenced} times by a fencing"
    );
    members.finish(test, &done);
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_zombie_is_replaced_and_recovers() {
    is_replaced_and_recovers("zombie", Joining::USUAL);
}
