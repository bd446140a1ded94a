//! Three nodes with all partitions on each. One at a time is killed or stopped, and started again: first the coordinators
//! of the group and of the transactions.

use fastrand::Rng;

use super::{broker::Cluster, members::Members, process::Setup, say, seed};

const ROUNDS: usize = 5;
const PER_SECOND: u32 = 400;

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn brokers_fail_one_at_a_time() {
    let seed = seed("brokers");
    let mut random = Rng::with_seed(seed);
    let mut cluster = Cluster::start(3);
    let setup = Setup::new("brokers", &cluster.servers(), 6);
    let mut members = Members::start_all(&setup, &["anna", "bo"], seed, PER_SECOND);
    let (mut kills, mut stops) = (0, 0);
    let mut hit = Vec::new();
    for round in 0..ROUNDS {
        members.advance(random.u64(500..2_000));
        let topic = match round % 3 {
            0 => "__transaction_state",
            1 => "__consumer_offsets",
            _ => &setup.names.commands,
        };
        let node = cluster.leader_now(topic, 0);
        hit.push(topic.to_owned());
        // The coordinators die once each in any case.
        if round < 2 || random.bool() {
            cluster.kill(node);
            kills += 1;
        } else {
            cluster.stop(node);
            stops += 1;
        }
        // Two nodes are enough: work continues without the third.
        members.advance(random.u64(500..2_000));
        cluster.restart(node);
    }
    say!("brokers: hit were the leaders of {}", hit.join(", "));
    members.finish("brokers", &format!("{kills} nodes killed, {stops} stopped"));
}
