use super::*;

use crate::{Settings, topics::error};

const ROLES: [Role; 4] = [Role::Commands, Role::Notifications, Role::Rejections, Role::Replies];

fn settings(values: &[(&str, &str)]) -> TopicSettings {
    let sound = [
        ("cleanup.policy", "delete"),
        ("max.message.bytes", "1048588"),
        ("message.timestamp.type", "LogAppendTime"),
        ("min.insync.replicas", "2"),
        ("retention.ms", "604800000"),
        ("unclean.leader.election.enable", "false"),
    ];
    let values = sound.iter().chain(values).map(|&(name, value)| (name.to_owned(), value.to_owned()));
    TopicSettings { values: values.collect(), replicas: Some(3) }
}

fn sound(role: Role) -> TopicSettings {
    match role {
        Role::Rejections => settings(&[("max.message.bytes", "1179660")]),
        _ => settings(&[]),
    }
}

/// The problems reported if this topic has these settings and the others are sound.
fn judged(
    changed: Role,
    found: Result<TopicSettings, RDKafkaErrorCode>,
) -> (Result<(), String>, Vec<String>) {
    let topics = Topics::for_test("c");
    let described: Vec<Described> = ROLES
        .into_iter()
        .map(|role| {
            let found = if role == changed { found.clone() } else { Ok(sound(role)) };
            (role, role.to_string(), found)
        })
        .collect();
    let mut report = Report::default();
    let problems = judge(&topics, &access(), &described, &mut report);
    let judged = if problems.is_empty() { Ok(()) } else { Err(error::list(&problems)) };
    (judged, report.warnings)
}

fn access() -> Access {
    Access::of(&Settings::for_test("b:9092", &[]))
}

fn with(role: Role, name: &str, value: &str) -> (Result<(), String>, Vec<String>) {
    let mut found = sound(role);
    found.values.insert(name.to_owned(), value.to_owned());
    judged(role, Ok(found))
}

fn contains(text: &str, part: &str) {
    assert!(text.contains(part), "{text:?} lacks {part:?}");
}

#[test]
fn sound_topics_pass_without_a_word() {
    for role in ROLES {
        assert_eq!(judged(role, Ok(sound(role))), (Ok(()), Vec::new()));
    }
}

#[test]
fn refuses_each_compacted_topic_that_it_owes_something() {
    for role in [Role::Commands, Role::Notifications, Role::Rejections] {
        for policy in ["compact", "compact,delete", "delete, compact"] {
            let error = with(role, "cleanup.policy", policy).0.unwrap_err();
            contains(&error, &format!("the {role} topic '{role}' is compacted (cleanup.policy={policy})"));
            contains(&error, "--add-config cleanup.policy=delete");
        }
    }
    let (judged, warnings) = with(Role::Replies, "cleanup.policy", "compact");
    assert_eq!(judged, Ok(()));
    contains(&warnings[0], "the reply topic 'reply' is compacted");
}

#[test]
fn warns_of_topics_with_fewer_replicas_than_must_be_in_sync() {
    for role in ROLES {
        let (judged, warnings) = with(role, "min.insync.replicas", "4");
        assert_eq!(judged, Ok(()));
        contains(&warnings[0], &format!("the {role} topic '{role}' has 3 of min.insync.replicas=4 replicas"));
    }
}

#[test]
fn refuses_output_topics_that_are_too_small() {
    contains(&with(Role::Notifications, "max.message.bytes", "132095").0.unwrap_err(), "up to 132095 bytes");
    assert_eq!(with(Role::Notifications, "max.message.bytes", "132096").0, Ok(()));
    contains(&with(Role::Rejections, "max.message.bytes", "1179659").0.unwrap_err(), "up to 1179659 bytes");
    contains(&with(Role::Commands, "max.message.bytes", "1048589").0.unwrap_err(), "must take 1179661");
}

#[test]
fn warns_of_settings_that_weaken_the_promise() {
    let warned = |role, name, value| {
        let (judged, warnings) = with(role, name, value);
        assert_eq!(judged, Ok(()));
        warnings
    };
    contains(&warned(Role::Commands, "message.timestamp.type", "CreateTime")[0], "timestamps");
    assert!(warned(Role::Notifications, "message.timestamp.type", "CreateTime").is_empty());
    contains(&warned(Role::Commands, "retention.ms", "60000")[0], "after 60 s");
    assert!(warned(Role::Commands, "retention.ms", "-1").is_empty());
    assert!(warned(Role::Notifications, "retention.ms", "60000").is_empty());
    for role in [Role::Commands, Role::Notifications, Role::Rejections] {
        let warnings = warned(role, "unclean.leader.election.enable", "true");
        contains(&warnings[0], "unclean.leader.election.enable=true");
    }
}

#[test]
fn names_the_right_that_is_missing_for_each_topic_and_checks_the_others() {
    for role in ROLES {
        let (judged, warnings) = judged(role, Err(RDKafkaErrorCode::TopicAuthorizationFailed));
        assert_eq!(judged, Ok(()));
        contains(
            &warnings[0],
            &format!("lacks DescribeConfigs on the topic '{role}'. Grant it: kafka-acls.sh"),
        );
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
    let topics = Topics::for_test("c");
    let described = [
        (Role::Commands, "c".to_owned(), Err(RDKafkaErrorCode::TopicAuthorizationFailed)),
        (Role::Rejections, "r".to_owned(), Ok(settings(&[("cleanup.policy", "compact")]))),
    ];
    let judged = judge(&topics, &access(), &described, &mut Report::default());
    assert!(matches!(judged[..], [TopicsError::Compacted { role: Role::Rejections, .. }]), "{judged:?}");
}

#[test]
fn names_every_problem_of_every_topic() {
    let topics = Topics::for_test("c");
    let bad = |more: &[(&str, &str)]| Ok(settings(&[&[("cleanup.policy", "compact")], more].concat()));
    let described = [
        (Role::Commands, "c".to_owned(), bad(&[("message.timestamp.type", "CreateTime")])),
        (Role::Notifications, "n".to_owned(), bad(&[("max.message.bytes", "1000")])),
        (Role::Rejections, "r".to_owned(), bad(&[("max.message.bytes", "1000")])),
    ];
    let mut report = Report::default();
    let judged = judge(&topics, &access(), &described, &mut report);
    assert!(
        matches!(
            judged[..],
            [
                TopicsError::Compacted { role: Role::Commands, .. },
                TopicsError::Compacted { role: Role::Notifications, .. },
                TopicsError::Compacted { role: Role::Rejections, .. },
                TopicsError::NotificationsTooSmall { .. },
                TopicsError::RejectionsTooSmall { .. },
            ]
        ),
        "{judged:?}"
    );
    contains(&report.warnings[0], "message.timestamp.type=CreateTime");
}

#[test]
fn a_topic_that_is_not_there_is_no_matter_of_its_settings() {
    let found = Err(RDKafkaErrorCode::UnknownTopicOrPartition);
    assert_eq!(judged(Role::Replies, found), (Ok(()), Vec::new()));
}
