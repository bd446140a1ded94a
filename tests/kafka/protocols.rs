//! Static members and the new group protocol (KIP-848): what a stop, a kill and a further member move, and that nothing is
//! lost or doubled whatever moves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    admin::{LISTEN, address, unready},
    broker::{self, Cluster},
    group,
    instances::{Faults, PER_SECOND, come_and_go, is_replaced_and_recovers},
    logs,
    members::Members,
    process::{Joining, Setup},
    progress::Progress,
    said::{self, ASSIGNED, LOST, REVOKED},
    seed, wait_until,
    work::{PARTITIONS, Work},
};

const NAMES: [&str; 3] = ["anna", "bo", "carl"];

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn static_members_come_and_go() {
    let faults = Faults { stops: 1, kills: 2, freezes: 1, long_freezes: 1 };
    come_and_go("static-members", Joining::STATIC, &NAMES, faults);
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn members_of_the_new_protocol_come_and_go() {
    let faults = Faults { stops: 1, kills: 2, freezes: 1, long_freezes: 1 };
    come_and_go("new-members", Joining::NEW, &NAMES, faults);
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn static_members_of_the_new_protocol_come_and_go() {
    let faults = Faults { stops: 1, kills: 2, freezes: 1, long_freezes: 1 };
    come_and_go("new-static-members", Joining::NEW_STATIC, &NAMES[..2], faults);
}

/// Without transactions, the offsets alone say who may publish, and the members commit them themselves.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn members_of_the_new_protocol_publish_at_least_once() {
    const TEST: &str = "new-at-least-once";
    let setup = Setup::new(TEST, &broker::shared(), 6);
    setup.join_as(Joining::NEW);
    setup.configure("[processor]\nguarantee = \"at-least-once\"");
    let mut members = Members::start_all(&setup, &NAMES[..2], seed(TEST), PER_SECOND);
    for is_killed in [false, true] {
        wait_until("both to have partitions", || members.share_all());
        members.advance(500);
        let instance = members.take(0);
        if is_killed {
            instance.kill();
        } else {
            instance.stop();
        }
        members.catch_up();
        members.start(0);
    }
    members.finish(TEST, "1 stop, 1 kill");
}

/// It comes back by its name, under another member id.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_static_zombie_is_replaced_and_recovers() {
    is_replaced_and_recovers("static-zombie", Joining::STATIC);
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_zombie_of_the_new_protocol_is_replaced_and_recovers() {
    is_replaced_and_recovers("new-zombie", Joining::NEW);
}

/// The partitions in the lines of a log that say this.
fn partitions_in(said: &str, what: &str) -> BTreeSet<i32> {
    said.lines().filter(|line| line.contains(what)).flat_map(said::partitions).collect()
}

/// What each instance says from now on.
struct Since(BTreeMap<&'static str, usize>);

impl Since {
    fn now(members: &Members<'_>) -> Self {
        Self(members.running.iter().map(|(&name, instance)| (name, instance.stderr().len())).collect())
    }

    fn said(&self, members: &Members<'_>, name: &str) -> String {
        members.running[name].stderr()[self.0[name]..].to_owned()
    }
}

/// Watches how far the output of each partition of the commands is published, and so visible.
struct Gaps {
    ended: Arc<AtomicBool>,
    watching: JoinHandle<Duration>,
}

impl Gaps {
    fn watch(setup: &Setup) -> Self {
        let (progress, ended) = (Progress::of(setup), Arc::new(AtomicBool::new(false)));
        let is_ended = Arc::clone(&ended);
        let watching = thread::spawn(move || {
            let (mut seen, mut longest) = (BTreeMap::new(), Duration::ZERO);
            while !is_ended.load(Ordering::SeqCst) {
                for (partition, published) in progress.committed().unwrap_or_default() {
                    let (last, since) = seen.entry(partition).or_insert((published, Instant::now()));
                    if published > *last {
                        longest = longest.max(since.elapsed());
                        (*last, *since) = (published, Instant::now());
                    }
                }
                thread::sleep(Duration::from_millis(10));
            }
            longest
        });
        Self { ended, watching }
    }

    /// The longest time in which no output of one partition became visible.
    fn longest(self) -> Duration {
        self.ended.store(true, Ordering::SeqCst);
        self.watching.join().expect("it watches")
    }
}

/// Three instances are restarted one after the other. Members that are static get back what they had, and nobody else
/// notices.
fn rolling_restart(test: &str, joining: Joining) {
    let setup = Setup::new(test, &broker::shared(), 6);
    setup.join_as(joining);
    let mut members = Members::start_all(&setup, &NAMES, seed(test), PER_SECOND);
    wait_until("all to have partitions", || members.share_all());
    members.advance(1_000);
    let (before, gaps) = (group::assignments_now(&setup), Gaps::watch(&setup));
    assert_eq!(before.len(), NAMES.len(), "{before:?}");
    for name in NAMES {
        let index = members.running.keys().position(|&running| running == name).expect("it runs");
        members.take(index).stop();
        let since = Since::now(&members);
        assert_eq!(group::kept_now(&setup), before, "after {name} has stopped");
        members.start(0);
        wait_until("the restarted instance to be assigned partitions", || {
            members.assert_running();
            members.running[name].stderr().contains(ASSIGNED)
        });
        let got: Vec<i32> = partitions_in(&members.running[name].stderr(), ASSIGNED).into_iter().collect();
        assert_eq!(got, before[name], "{name}, as it was before");
        members.advance(1_000);
        assert_eq!(group::assignments_now(&setup), before, "after {name} was restarted");
        for other in since.0.keys() {
            let said = since.said(&members, other);
            let moved = [ASSIGNED, REVOKED, LOST].iter().any(|what| said.contains(what));
            assert!(!moved, "{other}, while {name} was restarted: {said}");
        }
    }
    let gap = gaps.longest().as_millis();
    members.finish(test, &format!("3 instances restarted, nothing moved, longest gap {gap} ms"));
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_rolling_restart_of_static_members_moves_nothing() {
    rolling_restart("rolling", Joining::STATIC.lasting());
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_rolling_restart_of_static_members_of_the_new_protocol_moves_nothing() {
    rolling_restart("new-rolling", Joining::NEW_STATIC);
}

/// A third instance gets partitions of the other two, and those keep the rest without a pause.
fn third_joins(test: &str, joining: Joining) {
    let setup = Setup::new(test, &broker::shared(), 6);
    setup.join_as(joining);
    let mut members = Members::start_all(&setup, &NAMES[..2], seed(test), PER_SECOND);
    wait_until("both to have partitions", || members.share_all());
    members.advance(1_000);
    let (before, since) = (group::assignments_now(&setup), Since::now(&members));
    members.stopped.push(NAMES[2]);
    members.start(0);
    wait_until("all to have partitions", || members.share_all());
    members.advance(1_000);
    let after = group::assignments_now(&setup);
    let mut moved = BTreeSet::new();
    for name in since.0.keys() {
        let said = since.said(&members, name);
        let set = |held: &BTreeMap<String, Vec<i32>>| held[*name].iter().copied().collect::<BTreeSet<_>>();
        let (had, has) = (set(&before), set(&after));
        assert!(has.is_subset(&had), "{name} had {had:?} and has {has:?}");
        let revoked = partitions_in(&said, REVOKED);
        assert_eq!(revoked, &had - &has, "{name}: {said}");
        assert!(!said.contains(LOST) && partitions_in(&said, ASSIGNED).is_empty(), "{name}: {said}");
        moved.extend(revoked);
    }
    assert_eq!(
        moved.iter().copied().collect::<Vec<_>>(),
        after[NAMES[2]],
        "what was revoked and what the third has"
    );
    members.finish(test, &format!("a third instance joined, of 6 partitions {} moved", moved.len()));
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_third_member_moves_only_what_it_gets() {
    third_joins("third", Joining::USUAL.lasting());
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_third_member_of_the_new_protocol_moves_only_what_it_gets() {
    third_joins("new-third", Joining::NEW);
}

/// The group says nothing to a member for which it has no partition. All start at once, so that as a rule none finds others
/// in the group and follows them before it joins.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_member_of_the_new_protocol_without_partitions_follows_them() {
    const TEST: &str = "new-standby";
    let setup = Setup::new(TEST, &broker::shared(), 2);
    setup.join_as(Joining::NEW);
    let mut members = Members::start_all(&setup, &[], seed(TEST), PER_SECOND);
    for name in NAMES {
        members.running.insert(name, setup.start(name, &LISTEN));
    }
    let mut without = Vec::new();
    wait_until("two of three members to have the two partitions", || {
        members.assert_running();
        let held = group::assignments(&setup);
        without = NAMES.into_iter().filter(|name| held.get(*name).is_some_and(Vec::is_empty)).collect();
        held.len() == NAMES.len() && held.values().flatten().count() == 2 && without.len() == 1
    });
    let name = without[0];
    for _ in 0..2 {
        members.advance(1_000);
        let committed = members.progress.committed_now();
        wait_until("its log to have what the others have published", || {
            members.assert_running();
            let cursors = logs::cursors(&setup.log(name));
            let is_there = |(partition, published): (&i32, &i64)| {
                cursors.get(partition).is_some_and(|(_, logged)| logged >= published)
            };
            committed.iter().all(is_there)
        });
    }
    let standby = &members.running[name];
    wait_until("it to be ready", || address(standby).is_some() && unready(standby).is_none());
    members.running.remove(name).expect("it runs").stop();
    let check = setup.program(&["check"]).arg("--log-file").arg(setup.log("new")).output().expect("it runs");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success() && said.contains("'run' would start 2 partitions"), "{said}");
    members.finish(TEST, "one of three without partitions had both in its log");
}

/// Unlike the classic protocol, the new one leaves the membership to the process that has it.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn of_two_processes_of_the_new_protocol_with_one_group_instance_id_the_second_waits() {
    let mut work = Work::new("new-static");
    work.setup.join_as(Joining::NEW);
    let id = ["-X", "group.instance.id=one"];
    let mut first = work.setup.start("first", &id);
    work.post(300);
    work.await_published(&mut first);
    let mut second = work.setup.start("second", &id);
    wait_until("the second to be refused", || {
        second.assert_running();
        second.stderr().contains("has a member with the same group.instance.id")
    });
    work.post(300);
    work.await_published(&mut first);
    first.stop();
    work.post(300);
    work.await_published(&mut second);
    let log = second.log.clone();
    second.stop();
    work.assert_right("new-static:", &log);
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn brokers_without_the_new_protocol_are_refused() {
    let cluster = Cluster::with_settings(1, &[("group.coordinator.rebalance.protocols", "classic")]);
    let setup = Setup::new("no-new", &cluster.servers(), PARTITIONS);
    setup.join_as(Joining::NEW);
    let said = setup.refusal("only", &[]);
    assert!(said.contains("the brokers do not have group.protocol=consumer"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// One instance after the other, under load. The brokers may admit the first one that has the new protocol only once the last
/// member that has not is gone.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_group_moves_to_the_new_protocol_and_back() {
    const TEST: &str = "to-new";
    let setup = Setup::new(TEST, &broker::shared(), 6);
    let mut members = Members::start_all(&setup, &NAMES[..2], seed(TEST), PER_SECOND);
    for joining in [Joining::NEW, Joining::USUAL] {
        wait_until("both to have partitions", || members.share_all());
        setup.join_as(joining);
        for index in 0..2 {
            members.advance(500);
            members.take(index).stop();
            members.start(0);
        }
    }
    wait_until("both to have partitions", || members.share_all());
    members.advance(500);
    members.finish(TEST, "to the new protocol and back, one instance after the other");
}
