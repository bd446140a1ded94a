//! A log and another topic with the same name: created again, or in another cluster. The processor stops, whatever is
//! accepted, and publishes nothing.

use std::{collections::BTreeMap, fs};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{
    broker::Cluster,
    check::Findings,
    logs,
    process::{Instance, PATIENCE, Setup},
    say, topics, wait_until,
    work::{ALL, PARTITIONS, Work},
};

const SHORTER: &str = "cursor is at ";
const LONGER: &str = "this is not the topic that the log was made from";
/// Numbers of commands that are none of the test's own.
const FOREIGN: u32 = 1_000_000;

/// Makes the commands topic again, with as many other commands in it.
fn make_again(work: &Work, commands: u32) {
    make_again_empty(work);
    post_others(work, commands);
}

fn make_again_empty(work: &Work) {
    let (servers, names) = (&work.setup.servers, &work.setup.names);
    topics::delete(servers, &names.commands);
    names.create_commands(servers, PARTITIONS);
}

fn post_others(work: &Work, commands: u32) {
    let (servers, names) = (&work.setup.servers, &work.setup.names);
    work.load().post(servers, &names.commands, FOREIGN..FOREIGN + commands).finish();
}

/// It says so of each partition, also where the operator accepts everything that can be accepted.
#[track_caller]
fn assert_refused(setup: &Setup, wanted: &str) {
    let all = ["--accept", "lost-commands", "--accept", "republish", "--accept", "skip-unpublished"];
    for more in [&[][..], &all[..4], &all[4..], &["--accept", "group-offset"]] {
        let refusal = setup.refusal("only", more);
        assert_eq!(refusal.lines().count(), 1, "{refusal}");
        let sentences = refusal.replace("; partition ", "\npartition ");
        for partition in ALL {
            let of = sentences.lines().find(|line| line.starts_with(&format!("partition {partition}: ")));
            assert!(of.is_some_and(|line| line.contains(wanted)), "{refusal}");
        }
        assert!(
            refusal.contains("keep this log aside and start with a new file and a new group"),
            "{refusal}"
        );
    }
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_topic_created_again_stops_it() {
    let mut work = Work::new("again");
    work.post(600);
    let mut instance = work.setup.start("only", &[]);
    work.await_published(&mut instance);
    instance.stop();
    let expected = work.expected();
    for (commands, wanted) in [(0, SHORTER), (90, SHORTER), (1_500, LONGER)] {
        make_again(&work, commands);
        assert_refused(&work.setup, wanted);
        // The offsets went with the topic, and none was committed since.
        assert_eq!(work.progress.committed_now(), BTreeMap::new());
    }
    let mut findings = Findings::of_output(&work.setup, expected);
    findings.log(&work.setup.log("only"), &ALL);
    say!("again: refused when empty, shorter and longer, {findings}");
    findings.assert_none();
}

/// How a running processor refuses what `make_again` did. Nothing of it is decided or published.
fn refused_running(test: &str, make_again: impl FnOnce(&Work, &mut Instance)) -> String {
    let mut work = Work::new(test);
    let mut instance = work.setup.start("only", &[]);
    work.post(30);
    work.await_published(&mut instance);
    let expected = work.expected();
    make_again(&work, &mut instance);
    let refusal = instance.refusal();
    let mut findings = Findings::of_output(&work.setup, expected);
    findings.log(&work.setup.log("only"), &ALL);
    say!("{test}: refused, {findings}");
    findings.assert_none();
    refusal
}

/// It notices that its offsets are not there. By when it looks again, they may be, in the new topic.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_topic_created_again_under_a_running_processor_stops_it() {
    let refusal = refused_running("under", |work, instance| {
        make_again_empty(work);
        wait_until("it to miss its offsets", || instance.stderr().contains("left the consumer group"));
        post_others(work, 1_500);
    });
    assert!(refusal.contains(SHORTER) || refusal.contains(LONGER), "{refusal}");
    assert!(refusal.contains("The topic was created again"), "{refusal}");
}

/// It does not see the topic go, and finds its offsets in the new one.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_topic_created_again_and_filled_while_it_is_frozen_stops_it() {
    let refusal = refused_running("unseen", |work, instance| {
        instance.freeze();
        make_again(work, 1_500);
        instance.thaw();
    });
    assert!(refusal.contains(LONGER), "{refusal}");
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_log_from_another_cluster_is_refused() {
    let mut work = Work::new("elsewhere");
    work.post(300);
    let mut instance = work.setup.start("only", &[]);
    work.await_published(&mut instance);
    instance.stop();

    // The same names, in another place.
    let cluster = Cluster::start(1);
    let mut other = Setup::without_topics("elsewhere", &cluster.servers(), PARTITIONS);
    other.names = work.setup.names.clone();
    other.configure("");
    other.names.create(&other.servers, PARTITIONS);
    let (from, to) = (work.setup.log("only"), other.log("only"));
    for suffix in ["", "-instance"] {
        fs::copy(logs::beside(&from, suffix), logs::beside(&to, suffix)).expect("a copy");
    }
    assert_refused(&other, SHORTER);
    work.load().post(&other.servers, &other.names.commands, FOREIGN..FOREIGN + 900).finish();
    assert_refused(&other, LONGER);
    // Nothing was ever written there.
    for topic in [&other.names.notifications, &other.names.rejections] {
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &other.servers).create().expect("a client");
        for partition in ALL {
            let (_, end) = client.fetch_watermarks(topic, partition, PATIENCE).expect("an answer");
            assert_eq!(end, 0, "{topic}/{partition} has records");
        }
    }

    // With its own topic, it continues.
    fs::copy(to, from).expect("a copy");
    work.post(300);
    let mut instance = work.setup.start("only", &[]);
    work.await_published(&mut instance);
    instance.stop();
    let mut findings = work.findings();
    findings.log(&work.setup.log("only"), &ALL);
    findings.verify(&work.setup, &[&work.setup.log("only")]);
    say!("elsewhere: refused when empty and longer, {findings}");
    findings.assert_none();
}
