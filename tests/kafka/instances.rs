//! Two and three instances share the work while they are started, stopped, killed and frozen under load.

use std::{fmt, thread, time::Duration};

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

/// What was done to the instances, for the last line.
#[derive(Debug, Default)]
struct Done {
    starts: u32,
    stops: u32,
    kills: u32,
    freezes: u32,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { starts, stops, kills, freezes } = self;
        write!(f, "{starts} starts, {stops} stops, {kills} kills, {freezes} freezes")
    }
}

/// While one is frozen, others take its partitions over; then it finds itself replaced.
fn freeze(members: &mut Members<'_>, index: usize, duration: Duration) {
    let frozen = members.running.values_mut().nth(index).expect("a running instance");
    frozen.freeze();
    thread::sleep(duration);
    frozen.thaw();
}

/// One of them is started, or one of several is stopped, killed or frozen.
fn step(members: &mut Members<'_>, random: &mut Rng, done: &mut Done) {
    let may_end = members.running.len() > 1;
    if !members.stopped.is_empty() && (!may_end || random.u8(0..10) < 6) {
        members.start(random.usize(..members.stopped.len()));
        done.starts += 1;
        return;
    }
    let index = random.usize(..members.running.len());
    match random.u8(0..10) {
        0..2 => {
            members.take(index).stop();
            done.stops += 1;
        }
        2..6 => {
            members.take(index).kill();
            done.kills += 1;
        }
        kind => {
            freeze(members, index, if kind == 9 { LONG_ZOMBIE } else { ZOMBIE });
            done.freezes += 1;
        }
    }
}

fn come_and_go(test: &str, names: &[&'static str], steps: u32) {
    let seed = seed(test);
    let mut random = Rng::with_seed(seed);
    let setup = Setup::new(test, &broker::shared(), 6);
    let mut members = Members::start_all(&setup, names, seed, PER_SECOND);
    let mut done = Done { starts: names.len().try_into().expect("a few"), ..Done::default() };
    for _ in 0..steps {
        members.advance(random.u64(1..1_000));
        step(&mut members, &mut random, &mut done);
    }
    done.starts += u32::try_from(members.stopped.len()).expect("a few");
    members.finish(test, &done.to_string());
}

#[test]
#[ignore = "needs a real Kafka: see README, \"Tests against a real Kafka\""]
fn two_instances_come_and_go() {
    come_and_go("two", &["anna", "bo"], 16);
}

#[test]
#[ignore = "needs a real Kafka: see README, \"Tests against a real Kafka\""]
fn three_instances_come_and_go() {
    come_and_go("three", &["anna", "bo", "carl"], 20);
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
