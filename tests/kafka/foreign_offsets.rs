//! Offsets of the group that somebody else committed: another consumer in the group, or a person with Kafka's tools. The
//! processor stops, reports what is at stake, and continues in each way that it offers.

use std::{collections::BTreeMap, fs, fs::File, process::Stdio};

use nix::sys::signal::Signal;

use super::{
    check::Findings,
    distribution,
    guard::Guarded,
    logs::Noted,
    process::{Instance, PATIENCE},
    said::REVOKED,
    say, wait_until,
    work::{ALL, Work},
};

/// By partition.
type Offsets = BTreeMap<i32, i64>;

/// Runs it until all that was posted is out, and stops it.
fn run(work: &Work, more: &[&str]) -> String {
    let mut instance = work.setup.start("only", more);
    work.await_published(&mut instance);
    instance.stop()
}

/// `kafka-consumer-groups.sh --reset-offsets`, which the brokers allow once the group has no members.
#[track_caller]
fn reset(work: &Work, to: &str) -> Offsets {
    let (group, topic) = (&work.setup.names.group, &work.setup.names.commands);
    let mut said = String::new();
    wait_until("the offsets to be reset", || {
        let mut java = distribution::java(256);
        java.arg("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand");
        java.args(["--bootstrap-server", &work.setup.servers, "--group", group, "--topic", topic]);
        java.args(["--reset-offsets", to, "--execute"]).stdin(Stdio::null());
        let output = java.output().expect("java starts");
        said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        output.status.success() && !said.contains("Error")
    });
    say!("{group}: {}", said.trim().replace('\n', " / "));
    work.progress.committed_now()
}

/// It stops at each of these offsets, twice, and changes nothing.
#[track_caller]
fn assert_refused(work: &Work, found: &Offsets) {
    let before = work.progress.committed_now();
    for _ in 0..2 {
        assert_says(&work.setup.refusal("only", &[]), found);
        assert_eq!(work.progress.committed_now(), before, "nothing was changed");
    }
}

#[track_caller]
fn assert_says(refusal: &str, found: &Offsets) {
    for (partition, offset) in found {
        let wanted = format!(
            "partition {partition}: the group's committed offset {offset} was not committed by this program"
        );
        assert!(refusal.contains(&wanted), "{wanted}: {refusal}");
    }
    assert!(refusal.contains("--accept republish") && refusal.contains("--accept group-offset"), "{refusal}");
}

/// Goes on as `flag` says, once, and compares: the output of each command is there as often as `copies` says.
fn go_on(work: &mut Work, flag: &str, moved: &Offsets, copies: impl Fn(i32, i64) -> u64) {
    let mut instance = work.setup.start("only", &["--accept", flag]);
    // Until then the offsets can look as if everything were published.
    wait_until("each offset to be accepted", || {
        instance.assert_running();
        let said = instance.stderr();
        moved.keys().all(|partition| {
            let accepted = format!("kafka.partition={partition} accepted=\"{flag}\"");
            said.lines().any(|line| {
                line.contains("WARN") && line.contains("as '--accept' says") && line.contains(&accepted)
            })
        })
    });
    work.await_published(&mut instance);
    instance.stop();
    // Once is enough.
    work.post(300);
    run(work, &[]);

    let mut expected = work.expected();
    for place in expected.commands.keys().copied().collect::<Vec<_>>() {
        let copies = copies(place.0, place.1);
        if copies != 1 {
            expected.copies.insert(place, copies);
        }
    }
    let as_usual = expected.copies.is_empty();
    let touched = expected.copies.len();
    let mut findings = Findings::of_output(&work.setup, expected);
    let interventions = moved.keys().map(|&partition| (partition, flag.to_owned())).collect();
    findings.log_with(&work.setup.log("only"), &ALL, &Noted { interventions, ..Noted::default() });
    if as_usual {
        findings.verify(&work.setup, &[&work.setup.log("only")]);
    }
    say!("{flag}: the output of {touched} commands is not there once, {findings}");
    findings.assert_none();
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn offsets_reset_forward_stop_it() {
    for flag in ["republish", "group-offset"] {
        let mut work = Work::new("forward");
        work.post(300);
        run(&work, &[]);
        let before = work.progress.committed_now();
        work.post(300);
        let found = reset(&work, "--to-latest");
        assert_refused(&work, &found);
        let (first, next) = (before.clone(), found.clone());
        go_on(&mut work, flag, &found, |partition, offset| {
            let is_skipped = (first[&partition]..next[&partition]).contains(&offset);
            u64::from(flag == "republish" || !is_skipped)
        });
    }
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn offsets_reset_back_stop_it() {
    for (flag, killed) in [("republish", false), ("skip-unpublished", true), ("group-offset", false)] {
        let mut work = Work::new("back");
        work.post(300);
        let mut instance = work.setup.start("only", &[]);
        work.await_published(&mut instance);
        if killed {
            instance.kill();
        } else {
            instance.stop();
        }
        let before = work.progress.committed_now();
        let found = reset(&work, "--to-earliest");
        assert!(found.values().all(|&offset| offset == 0), "{found:?}");
        assert_refused(&work, &found);
        go_on(&mut work, flag, &found, |partition, offset| match flag {
            "group-offset" if offset < before[&partition] => 2,
            _ => 1,
        });
    }
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn offsets_set_before_the_first_start_stop_it() {
    for flag in ["republish", "group-offset"] {
        let mut work = Work::new("first");
        work.post(300);
        let found = reset(&work, "--to-latest");
        assert_refused(&work, &found);
        let next = found.clone();
        go_on(&mut work, flag, &found, |partition, offset| {
            u64::from(flag == "republish" || offset >= next[&partition])
        });
    }
}

/// `kafka-console-consumer.sh` in the processor's group, until all of them together have committed all that is posted
/// meanwhile. Gives the processor, and what was committed before.
fn visited(work: &mut Work, properties: &[&str]) -> (Instance, Offsets) {
    work.post(300);
    let mut instance = work.setup.start("only", &[]);
    work.await_published(&mut instance);
    let before = work.progress.committed_now();
    let said = work.setup.folder().join("visitor");
    let file = File::create(&said).expect("a file");
    let mut java = distribution::java(256);
    java.arg("org.apache.kafka.tools.consumer.ConsoleConsumer");
    java.args(["--bootstrap-server", &work.setup.servers, "--topic", &work.setup.names.commands]);
    java.args(["--group", &work.setup.names.group]);
    for property in ["auto.commit.interval.ms=200"].iter().chain(properties) {
        java.args(["--command-property", property]);
    }
    java.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let mut visitor = Guarded::start(&mut java, work.setup.folder()).expect("java starts");
    let mut is_there = |instance: &mut Instance| {
        assert!(visitor.ended().is_none(), "{}", fs::read_to_string(&said).unwrap_or_default());
        instance.assert_running();
    };
    wait_until("the visitor to be given partitions", || {
        is_there(&mut instance);
        instance.stderr().contains(REVOKED)
    });
    work.post(300);
    work.progress.await_published(work.posted().into(), 2 * PATIENCE, || is_there(&mut instance));
    visitor.signal(Signal::SIGTERM);
    visitor.wait(PATIENCE).expect("the visitor ends");
    (instance, before)
}

fn another_consumer(test: &str, properties: &[&str]) {
    for flag in ["republish", "group-offset"] {
        let mut work = Work::new(test);
        let (instance, before) = visited(&mut work, properties);
        let refusal = instance.refusal();
        let after = work.progress.committed_now();
        // What the processor decided meanwhile is marked, and refused is the rest.
        let is_moved = |partition: &i32| refusal.contains(&format!("partition {partition}: "));
        let moved: Offsets = after.clone().into_iter().filter(|(partition, _)| is_moved(partition)).collect();
        assert!(!moved.is_empty() && moved.len() < ALL.len(), "{refusal}");
        assert_says(&refusal, &moved);
        assert_refused(&work, &moved);
        let skipped = moved.clone();
        go_on(&mut work, flag, &moved, |partition, offset| {
            let is_skipped =
                skipped.get(&partition).is_some_and(|&next| (before[&partition]..next).contains(&offset));
            u64::from(flag == "republish" || !is_skipped)
        });
    }
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn another_consumer_in_the_group_stops_it() {
    another_consumer("visitor", &[]);
}

/// The brokers turn the group into one of the new kind, in which the processor is a member of the old kind.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn another_consumer_of_the_new_protocol_stops_it() {
    another_consumer("consumer-protocol", &["group.protocol=consumer"]);
}
