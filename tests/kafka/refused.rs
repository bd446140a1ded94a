//! Settings that would break a guarantee are refused at the start, with one sentence that says what to change.

use super::{
    broker::{self, Cluster},
    process::Setup,
    topics,
    work::PARTITIONS,
};

/// What `run` says on topics with these settings.
fn refusal(test: &str, settings: [&[(&str, &str)]; 3]) -> (Setup, String) {
    let setup = Setup::without_topics(test, &broker::shared(), PARTITIONS);
    let names = &setup.names;
    for (topic, settings) in
        [&names.commands, &names.notifications, &names.rejections].into_iter().zip(settings)
    {
        topics::create(&setup.servers, topic, PARTITIONS, settings);
        topics::await_known(&setup.servers, topic, PARTITIONS);
    }
    let refusal = setup.refusal("only", &[]);
    assert_eq!(refusal.lines().count(), 1, "{refusal}");
    assert!(!setup.log("only").exists(), "a log was made for nothing");
    (setup, refusal)
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn topics_that_are_not_fit_are_refused() {
    let large = (1_048_588 + 128 * 1024).to_string();
    let large = ("max.message.bytes", large.as_str());
    // One byte less than the largest command and 128 KiB.
    let small = (512 * 1024 + 128 * 1024 - 1).to_string();
    let (setup, said) = refusal("small-notifications", [&[], &[("max.message.bytes", &small)], &[large]]);
    let wanted =
        format!("the notifications topic '{}' takes records up to {small} bytes", setup.names.notifications);
    assert!(said.contains(&wanted), "{said}");

    let (setup, said) = refusal("small-rejections", [&[], &[], &[]]);
    let wanted =
        format!("the rejections topic '{}' takes records up to 1048588 bytes", setup.names.rejections);
    assert!(said.contains(&wanted), "{said}");

    let (setup, said) = refusal("compacted", [&[("cleanup.policy", "compact,delete")], &[], &[large]]);
    let wanted = format!("the commands topic '{}' is compacted", setup.names.commands);
    assert!(said.contains(&wanted), "{said}");

    let compacted = ("cleanup.policy", "compact");
    let (setup, said) = refusal("compacted-notifications", [&[], &[compacted], &[large]]);
    let wanted = format!("the notifications topic '{}' is compacted", setup.names.notifications);
    assert!(said.contains(&wanted), "{said}");
    assert_check_says(&setup, &wanted);

    let (setup, said) = refusal("compacted-rejections", [&[], &[], &[large, compacted]]);
    let wanted = format!("the rejections topic '{}' is compacted", setup.names.rejections);
    assert!(said.contains(&wanted), "{said}");
    assert_check_says(&setup, &wanted);
}

/// `check` refuses what `run` refuses.
#[track_caller]
fn assert_check_says(setup: &Setup, wanted: &str) {
    let output = setup.program(&["check"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().any(|line| line.starts_with("problem") && line.contains(wanted)), "{said}");
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_session_timeout_that_the_broker_does_not_allow_is_refused() {
    let setup = Setup::new("session", &broker::shared(), PARTITIONS);
    for properties in [
        ["session.timeout.ms=10", "heartbeat.interval.ms=3"],
        ["session.timeout.ms=3600000", "max.poll.interval.ms=3600000"],
    ] {
        let said = setup.refusal("only", &["-X", properties[0], "-X", properties[1]]);
        assert!(said.contains("the broker does not allow this session.timeout.ms"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// Both guarantees commit the first offsets before there is anything to publish.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_broker_that_takes_no_mark_beside_an_offset_is_refused() {
    let cluster = Cluster::with_settings(1, &[("offset.metadata.max.bytes", "8")]);
    let setup = Setup::new("metadata", &cluster.servers(), PARTITIONS);
    for guarantee in ["exactly-once", "at-least-once"] {
        let said = setup.refusal("only", &["--set", &format!("processor.guarantee={guarantee}")]);
        assert!(said.contains("the group's first offsets: "), "{said}");
        assert!(said.contains("up to 132 bytes") && said.contains("offset.metadata.max.bytes"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
