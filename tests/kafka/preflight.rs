//! `check` says what `run` would do, and does none of it.

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
fn refused_by_both(work: &Work) -> String {
    let before = work.progress.committed_now();
    let (code, text) = check(&work.setup, &[]);
    let refused = said(&text, "problem", "start");
    assert_eq!((code, refused.len()), (Some(1), ALL.len()), "{text}");
    assert_eq!(work.progress.committed_now(), before, "asking changed the group's offsets");
    let refusal = work.setup.refusal("only", &[]);
    for sentence in &refused {
        assert!(refusal.contains(sentence), "{sentence}\nis not what 'run' says:\n{refusal}");
    }
    text
}

#[test]
#[ignore = "needs a real Kafka: see README, \"Tests against a real Kafka\""]
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
    let text = refused_by_both(&work);
    assert!(text.contains("--accept republish"), "{text}");

    // Another topic with the same name.
    topics::delete(&work.setup.servers, &work.setup.names.commands);
    work.setup.names.create_commands(&work.setup.servers, PARTITIONS);
    refused_by_both(&work);
}

#[test]
#[ignore = "needs a real Kafka: see README, \"Tests against a real Kafka\""]
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

    // Not with as many replicas, and not one that is left as it is.
    let (code, text) = check(&setup, &[&create[..], &["--set", "topics.replication_factor=9"]].concat());
    let problems = said(&text, "problem", "topics");
    assert_eq!((code, problems.len()), (Some(1), 1), "{text}");
    assert!(problems[0].starts_with(&format!("the topic '{commands}' could not be created")), "{text}");

    topics::create(&setup.servers, notifications, 1, &[("cleanup.policy", "compact")]);
    topics::await_known(&setup.servers, notifications, 1);
    let (code, text) = check(&setup, &create);
    let problems = said(&text, "problem", "topics");
    assert_eq!((code, problems.len()), (Some(1), 1), "{text}");
    assert!(
        problems[0].starts_with(&format!("the notifications topic '{notifications}' is compacted")),
        "{text}"
    );
}
