//! The only broker is unavailable for longer than a transaction may last: stopped, killed and frozen. The processor waits,
//! and resumes on its own with everything that has accumulated.
//!
//! No transaction is open when the broker becomes unavailable. In the middle of one, Kafka 4.3.1 as the only replica can
//! report the transaction as committed, or aborted, without completing it in the partitions, because they have no leader at
//! that moment (KAFKA-20734): when it stops, as in 2 of 7 stops, and when it starts again, as after 1 of 36 kills. After a
//! freeze, too, partitions have no leader for a moment. The group's offsets then hang. No client can prevent that;
//! docs/troubleshooting.md says what an operator can do.

use std::{thread, time::Duration};

use fastrand::Rng;

use super::{broker::Cluster, members::Members, process::Setup, seed, work::PARTITIONS};

/// Longer than the transaction time-out of 10 s.
const AWAY: Duration = Duration::from_secs(12);
/// Milliseconds for which it is unavailable, works again, and is frozen. If it is frozen for longer than 3 s, its own
/// controller considers it dead, and it reports a cluster without brokers once it resumes.
const GONE: std::ops::Range<u64> = 1_500..5_000;
const BACK: std::ops::Range<u64> = 0..1_500;
const FROZEN: std::ops::Range<u64> = 4_000..9_000;
const ROUNDS: u32 = 6;

/// How often a client lost sight of all brokers and was replaced, which is chance: see `crates/kafka/src/liveness.rs`.
fn lost(members: &Members<'_>) -> String {
    let said = members.running.values().map(|instance| instance.stderr().matches("which lost them").count());
    format!("{} clients lost the brokers", said.sum::<usize>())
}

/// No transaction is open from now on.
fn at_rest(members: &mut Members<'_>) {
    members.rest();
    // The group's offsets are reported as committed a moment before the last output partition is marked.
    thread::sleep(Duration::from_secs(1));
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_broker_that_was_away_for_long_is_outlasted() {
    let mut cluster = Cluster::start(1);
    let setup = Setup::new("outage", &cluster.servers(), PARTITIONS);
    let mut members = Members::start_all(&setup, &["only"], seed("outage"), 500);
    members.advance(1_000);
    for fault in [Cluster::stop, Cluster::kill, Cluster::freeze] {
        at_rest(&mut members);
        fault(&mut cluster, 0);
        thread::sleep(AWAY);
        members.assert_running();
        if cluster.is_up(0) {
            cluster.thaw(0);
        } else {
            cluster.restart(0);
        }
        members.go_on();
        members.catch_up();
    }
    let lost = lost(&members);
    members.finish("outage", &format!("stopped, killed and frozen once, each for 12 s, {lost}"));
}

/// Clients that are reconnecting are interrupted, and get metadata without brokers.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_broker_that_freezes_as_soon_as_it_is_back_is_outlasted() {
    let seed = seed("frozen");
    let mut random = Rng::with_seed(seed);
    let mut cluster = Cluster::start(1);
    let setup = Setup::new("frozen", &cluster.servers(), PARTITIONS);
    let mut members = Members::start_all(&setup, &["only"], seed, 500);
    members.advance(1_000);
    for _ in 0..ROUNDS {
        let [gone, back, frozen] = [GONE, BACK, FROZEN].map(|range| Duration::from_millis(random.u64(range)));
        at_rest(&mut members);
        cluster.kill(0);
        thread::sleep(gone);
        cluster.restart(0);
        thread::sleep(back);
        cluster.freeze(0);
        thread::sleep(frozen);
        members.assert_running();
        cluster.thaw(0);
        members.go_on();
        members.catch_up();
    }
    let lost = lost(&members);
    members.finish("frozen", &format!("killed and frozen {ROUNDS} times, {lost}"));
}
