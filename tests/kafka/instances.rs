//! Two and three instances share the work while they are started, stopped, killed and frozen under load.

use std::{fmt, iter, thread, time::Duration};

use fastrand::Rng;

use super::{broker, group, logs, members::Members, process::Setup, seed, wait_until};

/// Beyond the session time-out of 1 s: others take over, once the transaction that was open is undone by its time-out.
const ZOMBIE: Duration = Duration::from_millis(2_500);
/// Beyond the transaction time-out of 10 s too: the broker has undone the transaction itself.
const LONG_ZOMBIE: Duration = Duration::from_millis(13_000);
const PER_SECOND: u32 = 500;
const LOST: &str = "partitions lost";
const ASSIGNED: &str = "partitions assigned";
/// What the publisher says where the broker has ended its transaction: only what was in the middle of one hears that.
const FENCED: &str = "making a new producer error=fenced";
/// About one freeze in five is in the middle of a transaction (4 of 19).
const MOST_FREEZES: usize = 40;

/// How one of several instances is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Stop,
    Kill,
    Freeze,
    LongFreeze,
}

/// So many of each kind. Their order is chance; that each is there is not.
#[derive(Debug, Clone, Copy)]
struct Faults {
    stops: usize,
    kills: usize,
    freezes: usize,
    long_freezes: usize,
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
        Fault::Freeze => freeze(members, index, ZOMBIE),
        Fault::LongFreeze => freeze(members, index, LONG_ZOMBIE),
    }
}

/// One instance after the other is disturbed, never the last one that runs; in between, those that ended are started.
fn come_and_go(test: &str, names: &[&'static str], faults: Faults) {
    let seed = seed(test);
    let mut random = Rng::with_seed(seed);
    let setup = Setup::new(test, &broker::shared(), 6);
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
#[ignore = "needs a real Kafka: see README, \"Tests against a real Kafka\""]
fn two_instances_come_and_go() {
    let faults = Faults { stops: 3, kills: 4, freezes: 2, long_freezes: 1 };
    come_and_go("two", &["anna", "bo"], faults);
}

#[test]
#[ignore = "needs a real Kafka: see README, \"Tests against a real Kafka\""]
fn three_instances_come_and_go() {
    let faults = Faults { stops: 3, kills: 4, freezes: 3, long_freezes: 1 };
    come_and_go("three", &["anna", "bo", "carl"], faults);
}

/// Whether it has read the history of its partitions, so that what is published of them is its own work.
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
    !held.is_empty() && held.iter().all(is_ahead)
}

/// Whether it was refused what it went on publishing before it took part again; `None` while it does not.
fn was_refused(said: &str) -> Option<bool> {
    let (_, since) = said.split_once(LOST)?;
    let rejoined = said.len() - since.len() + since.find(ASSIGNED)?;
    Some(said[..rejoined].contains(FENCED))
}

/// Frozen until the session, the transaction and all that was in flight timed out, it wakes up in the middle of what
/// it was publishing: that is refused, it gives up what it held, and takes part again by itself; also the second time.
#[test]
#[ignore = "needs a real Kafka: see README, \"Tests against a real Kafka\""]
fn a_zombie_is_replaced_and_recovers() {
    let setup = Setup::new("zombie", &broker::shared(), 6);
    let mut members = Members::start_all(&setup, &["anna", "bo"], seed("zombie"), PER_SECOND);
    let (mut freezes, mut fenced) = (0, 0);
    // A freeze between two transactions leaves nothing that could be refused.
    while fenced < 2 {
        assert!(freezes < MOST_FREEZES, "in {freezes} freezes only {fenced} were in the middle of something");
        wait_until("both to have partitions, and the zombie to be at work", || {
            members.share_all() && publishes(&members, "anna")
        });
        let before = members.running["anna"].stderr().len();
        freeze(&mut members, 0, LONG_ZOMBIE);
        let mut refused = None;
        wait_until("the zombie to find itself replaced, and to take part again", || {
            refused = members.running["anna"].stderr().get(before..).and_then(was_refused);
            refused.is_some()
        });
        freezes += 1;
        fenced += usize::from(refused == Some(true));
    }
    members
        .finish("zombie", &format!("{freezes} freezes, {fenced} times refused what it went on publishing"));
}
