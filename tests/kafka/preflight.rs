//! `check` reports what `run` would do, and changes nothing.

use std::process::Output;

use super::{
    broker,
    process::Setup,
    topics::{self, Names},
    verifying::verify,
    work::{ALL, PARTITIONS, Work},
};

fn check(setup: &Setup, arguments: &[&str]) -> (Option<i32>, String) {
    let log = setup.log("only").display().to_string();
    let mut check = setup.program(&["check", "--log-file", &log]);
    let Output { status, stdout, .. } = check.args(arguments).output().expect("check");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned())
}

/// The messages of the lines with this status that are about this.
fn said<'a>(text: &'a str, status: &str, about: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(status));
    lines.filter_map(|line| line.trim_start().strip_prefix(about)).map(str::trim_start).collect()
}

/// `run` refuses the same partitions with the same sentences.
fn refused_by_both(work: &Work, arguments: &[&str]) -> String {
    let before = work.progress.committed_now();
    let (code, text) = check(&work.setup, arguments);
    let refused = said(&text, "problem", "start");
    assert_eq!((code, refused.len()), (Some(1), ALL.len()), "{text}");
    assert_eq!(work.progress.committed_now(), before, "asking changed the group's offsets");
    said_by_run(&work.setup, arguments, &refused);
    text
}

fn said_by_run(setup: &Setup, arguments: &[&str], problems: &[&str]) {
    let refusal = setup.refusal("only", arguments);
    for sentence in problems {
        assert!(refusal.contains(sentence), "{sentence}\nis not what 'run' says:\n{refusal}");
    }
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn partitions_that_run_would_refuse_are_refused_by_check() {
    let mut work = Work::new("preflight");
    let mut instance = work.setup.start("only", &[]);
    // The log notes what is published with its next append.
    for _ in 0..2 {
        work.post(300);
        work.await_published(&mut instance);
    }
    let (code, text) = check(&work.setup, &[]);
    assert_eq!(code, Some(0), "beside a running processor: {text}");
    assert_eq!(said(&text, "ok", "start"), ["'run' would start 3 partitions"], "{text}");
    instance.kill();
    verify(&work.setup, &["only"], &[]).assert_clean();

    // Offsets that are lost after a kill.
    topics::forget(&work.setup.servers, &work.setup.names.group);
    let text = refused_by_both(&work, &[]);
    assert!(text.contains("--accept republish"), "{text}");

    // No topic, where 'run' makes one, and then another topic with the same name.
    topics::delete(&work.setup.servers, &work.setup.names.commands);
    let partitions = format!("topics.partitions={PARTITIONS}");
    let text = refused_by_both(&work, &["--set", "topics.create=true", "--set", &partitions]);
    assert!(text.contains("does not exist; 'run' will create it"), "{text}");
    topics::await_known(&work.setup.servers, &work.setup.names.commands, PARTITIONS);
    refused_by_both(&work, &[]);
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_missing_topic_ends_no_check() {
    let setup = Setup::without_topics("missing", &broker::shared(), PARTITIONS);
    let Names { commands, notifications, rejections, .. } = &setup.names;
    let create = ["--set", "topics.create=true"];
    let (code, text) = check(&setup, &create);
    assert_eq!(code, Some(0), "{text}");
    for topic in [commands, notifications, rejections] {
        let wanted = format!("'{topic}' does not exist; 'run' will create it");
        assert!(said(&text, "warning", "topic").contains(&wanted.as_str()), "{text}");
    }

    // Not with as many replicas.
    let not_created = [commands, notifications, rejections]
        .map(|topic| format!("the topic '{topic}' could not be created"));
    let many = [&create[..], &["--set", "topics.replication_factor=9"]].concat();
    stopped_by(&setup, &many, &not_created);

    // And none that is left as it is.
    for topic in [notifications, rejections] {
        topics::create(&setup.servers, topic, 1, &[("cleanup.policy", "compact")]);
        topics::await_known(&setup.servers, topic, 1);
    }
    let missing = format!("the topic '{commands}' does not exist");
    let [first, second] = [("notifications", notifications), ("rejections", rejections)]
        .map(|(role, topic)| format!("the {role} topic '{topic}' is compacted"));
    stopped_by(&setup, &[], &[missing, first.clone(), second.clone()]);
    stopped_by(&setup, &create, &[first, second]);
}

/// `check` has just these problems, which begin so, and `run` ends with all of them in one line.
fn stopped_by(setup: &Setup, arguments: &[&str], wanted: &[String]) {
    let (code, text) = check(setup, arguments);
    let problems = [said(&text, "problem", "topic "), said(&text, "problem", "topics")].concat();
    let are_all = problems.len() == wanted.len()
        && problems.iter().zip(wanted).all(|(problem, wanted)| problem.starts_with(wanted));
    assert!(code == Some(1) && are_all, "{wanted:?}: {text}");
    said_by_run(setup, arguments, &problems);
}
