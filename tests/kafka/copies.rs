//! Two processes and one log: the second process is refused on the same file, fenced on a copy with the original's instance
//! id, and accepted on a copy with an id of its own.

use std::{fs, os::unix};

use super::{
    broker, logs,
    members::Members,
    process::{Joining, PATIENCE, Setup},
    seed, wait_until, wait_within,
    work::{PARTITIONS, Work},
};

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_second_process_on_the_same_log_is_refused() {
    let mut work = Work::new("second");
    let mut first = work.setup.start("first", &[]);
    work.post(300);
    work.await_published(&mut first);
    // The same file by another name.
    unix::fs::symlink(&first.log, work.setup.log("second")).expect("a link");
    let refusal = work.setup.refusal("second", &[]);
    assert!(refusal.contains("locked: another process runs on the event log"), "{refusal}");
    assert!(refusal.contains(first.log.to_str().expect("text")), "{refusal}");
    // The first one has noticed nothing.
    work.post(300);
    work.await_published(&mut first);
    let log = first.log.clone();
    first.stop();
    work.assert_right("second: refused,", &log);
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_copy_of_a_log_is_fenced_unless_it_is_an_instance_of_its_own() {
    let setup = Setup::new("copy", &broker::shared(), PARTITIONS);
    let mut members = Members::start_all(&setup, &["original"], seed("copy"), 300);
    members.advance(300);
    members.take(0).stop();
    let (original, copy) = (setup.log("original"), setup.log("copy"));
    for suffix in ["", "-instance"] {
        fs::copy(logs::beside(&original, suffix), logs::beside(&copy, suffix)).expect("a copy");
    }
    members.stopped.push("copy");
    members.start(0);
    members.start(0);

    // Each new producer fences the other one's, until one of the two finds itself fenced twice.
    let mut fenced = Vec::new();
    // The brokers have to be quick twice in a row, for it to count.
    wait_within(4 * PATIENCE, "one of the two to give up", || {
        fenced = members.running.values_mut().map(|instance| !instance.is_running()).collect();
        fenced.contains(&true)
    });
    for index in (0..fenced.len()).rev().filter(|&index| fenced[index]) {
        let refusal = members.take(index).refusal();
        assert!(refusal.contains("fenced twice by a newer producer"), "{refusal}");
        assert!(refusal.contains("'-instance' file is removed"), "{refusal}");
    }
    let given_up = members.stopped.join(" and ");
    // As the message says.
    if let Some(index) = members.running.keys().position(|&name| name == "copy") {
        members.take(index).stop();
    }
    fs::remove_file(logs::beside(&copy, "-instance")).expect("the copy's instance file");
    while !members.stopped.is_empty() {
        members.start(0);
    }
    wait_until("both to have partitions", || members.share_all());
    members.advance(300);
    members.finish("copy", &format!("{given_up} was fenced twice"));
}

/// Kafka gives the membership to whoever came last. The other one stops, and does not take it back in turn.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn of_two_processes_with_one_group_instance_id_the_first_stops() {
    let mut work = Work::new("static");
    work.setup.join_as(Joining::USUAL.lasting());
    let id = ["-X", "group.instance.id=one"];
    let mut first = work.setup.start("first", &id);
    work.post(300);
    work.await_published(&mut first);
    let mut second = work.setup.start("second", &id);
    let refusal = first.refusal();
    assert!(refusal.contains("joined the consumer group with the same group.instance.id"), "{refusal}");
    work.post(300);
    work.await_published(&mut second);
    let log = second.log.clone();
    second.stop();
    work.assert_right(&format!("static: {refusal}"), &log);
}
