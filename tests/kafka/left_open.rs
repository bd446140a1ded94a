//! A transaction that an instance leaves open is aborted by whoever takes its partitions over, however late the brokers do it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{
    broker::Cluster,
    members::Members,
    process::{Joining, Setup},
    seed, wait_until,
};

const PER_SECOND: u32 = 1_000;
/// What the next owner says.
const ABORTED: &str =
    "fenced the former owner of this partition, to abort the transaction that it had left open";

/// A broker that does not look for transactions to time out while a test lasts. Tests that run at one time share it.
fn patient_broker() -> Arc<Cluster> {
    static BROKER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    // A start that failed leaves nothing behind, and the next test says why as well.
    let mut broker = BROKER.lock().unwrap_or_else(PoisonError::into_inner);
    broker.upgrade().unwrap_or_else(|| {
        let never = ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "3600000");
        let started = Arc::new(Cluster::with_settings(1, &[never]));
        *broker = Arc::downgrade(&started);
        started
    })
}

/// An instance that is frozen in the middle of a transaction.
struct Frozen {
    name: &'static str,
    other: &'static str,
    /// How often the other one had aborted a transaction when this one was frozen.
    aborted: usize,
}

impl Frozen {
    fn in_a_transaction(members: &mut Members<'_>) -> Self {
        for [name, other] in [["anna", "bo"], ["bo", "anna"]].into_iter().cycle().take(400) {
            members.assert_running();
            let aborted = aborted(members, other);
            members.running.get_mut(name).expect("it runs").freeze();
            if members.progress.has_open_transaction() {
                return Self { name, other, aborted };
            }
            members.running.get_mut(name).expect("it runs").thaw();
        }
        panic!("no freeze came in the middle of a transaction");
    }

    #[track_caller]
    fn await_abort(&self, members: &Members<'_>) {
        wait_until("the other one to abort the transaction", || aborted(members, self.other) > self.aborted);
    }
}

/// How often this instance has aborted a transaction of another one.
fn aborted(members: &Members<'_>, by: &str) -> usize {
    members.running[by].stderr().matches(ABORTED).count()
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_transaction_of_a_killed_instance_is_aborted_by_whoever_takes_over() {
    let kafka = patient_broker();
    let setup = Setup::new("killed-open", &kafka.servers(), 6);
    let mut members = Members::start_all(&setup, &["anna", "bo"], seed("killed-open"), PER_SECOND);
    wait_until("both to have partitions", || members.share_all());
    members.advance(1_000);
    let frozen = Frozen::in_a_transaction(&mut members);
    let index = members.running.keys().position(|name| *name == frozen.name).expect("it runs");
    members.take(index).kill();
    frozen.await_abort(&members);
    members.catch_up();
    members.finish("killed-open", "1 kill in the middle of a transaction");
}

/// An instance is frozen in the middle of a transaction until the other one has aborted that, again and again. It is fenced,
/// which is no reason to end: no other process has its log.
fn freeze_again_and_again(test: &str, joining: Joining) {
    let kafka = patient_broker();
    let setup = Setup::new(test, &kafka.servers(), 6);
    setup.join_as(joining);
    let mut members = Members::start_all(&setup, &["anna", "bo"], seed(test), PER_SECOND);
    for _ in 0..3 {
        wait_until("both to have partitions", || members.share_all());
        members.advance(1_000);
        let frozen = Frozen::in_a_transaction(&mut members);
        frozen.await_abort(&members);
        members.running.get_mut(frozen.name).expect("it runs").thaw();
    }
    members.catch_up();
    members.finish(test, "3 freezes in the middle of a transaction");
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_frozen_instance_whose_transaction_was_aborted_goes_on() {
    freeze_again_and_again("frozen-open", Joining::USUAL);
}

/// To whoever takes over, a killed process is like a frozen one, so these two memberships need no kill here.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_frozen_static_member_whose_transaction_was_aborted_goes_on() {
    freeze_again_and_again("static-frozen-open", Joining::STATIC);
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_frozen_member_of_the_new_protocol_whose_transaction_was_aborted_goes_on() {
    freeze_again_and_again("new-frozen-open", Joining::NEW);
}
