//! Records on the topics of the output.

use bytes::Bytes;
use contract::{Header, Problem, Problems, Record, topic_bits};

use super::*;

/// The fifth of its kind; not the first, so that others come before it. Of notifications, one of a first target and a
/// command in partition 0.
fn fifth(world: &mut World, topic: Topic) -> &mut Record {
    let is_meant = |record: &&mut Record| {
        let value = String::from_utf8_lossy(record.value.as_deref().unwrap());
        topic == Topic::Rejections || (value.contains("/0\",") && value.contains("-8000-0000"))
    };
    let partitions = world.topic(topic).iter_mut();
    partitions.flat_map(|partition| &mut partition.records).filter(is_meant).nth(4).unwrap()
}

fn again(world: &mut World, topic: Topic, change: impl Fn(&mut Record)) {
    let mut record = fifth(world, topic).clone();
    change(&mut record);
    let partition = record.coordinates.partition as usize;
    world.topic(topic)[partition].push(record);
}

fn replace(bytes: &mut Option<Bytes>, from: &str, to: &str) {
    let text = String::from_utf8(bytes.take().unwrap().into()).unwrap();
    assert!(text.contains(from), "{text}");
    *bytes = Some(text.replace(from, to).into());
}

fn header<'a>(record: &'a mut Record, name: &str) -> &'a mut Header {
    record.headers.iter_mut().rev().find(|header| header.name == name.as_bytes()).unwrap()
}

fn remove(world: &mut World, topic: Topic) -> Record {
    let record = fifth(world, topic).clone();
    world.take(topic, |other| *other == record)
}

#[test]
fn finds_each_fault_on_the_notifications_topic() {
    const TOPIC: Topic = Topic::Notifications;
    let traced = |world: &mut World, change: &dyn Fn(&mut Record)| {
        change(
            world.record(TOPIC, |record| record.headers.iter().any(|header| *header.name == *b"traceparent")),
        );
    };
    let reported = plant(&[
        ("lost", &|world| drop(remove(world, TOPIC)), &[(Lost, Notification)]),
        ("doubled", &|world| again(world, TOPIC, |_| {}), &[(Doubled, Notification)]),
        (
            "there three times",
            &|world| (0..2).for_each(|_| again(world, TOPIC, |_| {})),
            &[(Doubled, Notification); 2],
        ),
        (
            "value",
            &|world| replace(&mut fifth(world, TOPIC).value, "case", "cave"),
            &[(Altered, Notification)],
        ),
        (
            "key",
            &|world| replace(&mut fifth(world, TOPIC).key, "Identity", "identity"),
            &[(Altered, Notification)],
        ),
        ("no key", &|world| fifth(world, TOPIC).key = None, &[(Altered, Notification)]),
        (
            "header",
            &|world| header(fifth(world, TOPIC), "ce_subject").value = None,
            &[(Altered, Notification)],
        ),
        (
            "header ce_id",
            &|world| header(fifth(world, TOPIC), "ce_id").value = None,
            &[(Altered, Notification)],
        ),
        (
            "one header more",
            &|world| fifth(world, TOPIC).headers.push(Header::new("x", "")),
            &[(Altered, Notification)],
        ),
        ("one header less", &|world| drop(fifth(world, TOPIC).headers.pop()), &[(Altered, Notification)]),
        (
            "headers in another order",
            &|world| fifth(world, TOPIC).headers.swap(0, 1),
            &[(Altered, Notification)],
        ),
        (
            "no trace",
            &|world| traced(world, &|record| drop(record.headers.pop())),
            &[(Altered, Notification)],
        ),
        (
            "another trace",
            &|world| traced(world, &|record| header(record, "traceparent").value = Some("00".into())),
            &[(Altered, Notification)],
        ),
        (
            "a value that can't be read",
            &|world| replace(&mut fifth(world, TOPIC).value, "{\"id\"", "{\"idea\""),
            &[(Altered, Notification)],
        ),
        (
            "once as it should be and once not",
            &|world| again(world, TOPIC, |record| replace(&mut record.value, "case", "cave")),
            &[(Doubled, Notification)],
        ),
        (
            "of a place that is not notified",
            &|world| again(world, TOPIC, |record| replace(&mut record.value, "/0\"", "/1\"")),
            &[(Foreign, Notification)],
        ),
        (
            "of another time",
            &|world| again(world, TOPIC, |record| replace(&mut record.value, "018bcfe5", "018bcfe6")),
            &[(Foreign, Notification)],
        ),
        (
            "nobody's",
            &|world| {
                again(world, TOPIC, |record| {
                    record.value = Some("{}".into());
                    record.headers.clear();
                });
            },
            &[(Foreign, Notification)],
        ),
        (
            "of another topic",
            &|world| {
                let bits = format!("-8{:03x}-", topic_bits(world::TOPIC));
                again(world, TOPIC, |record| replace(&mut record.value, &bits, "-8fff-"));
            },
            &[(Foreign, Notification)],
        ),
        (
            "of a command that is not there yet",
            &|world| again(world, TOPIC, |record| replace(&mut record.value, "-8000-0000", "-8000-00ff")),
            &[(Foreign, Notification)],
        ),
        (
            "of a partition that is not there",
            &|world| again(world, TOPIC, |record| replace(&mut record.value, "-8000-0000", "-8007-0000")),
            &[(Foreign, Notification)],
        ),
        (
            "one lost and another one doubled",
            &|world| {
                remove(world, TOPIC);
                again(world, TOPIC, |_| {});
            },
            &[(Lost, Notification), (Doubled, Notification)],
        ),
        (
            "two that changed their values",
            &|world| {
                let value = fifth(world, TOPIC).value.clone();
                let (place, key) = (fifth(world, TOPIC).coordinates, fifth(world, TOPIC).key.clone());
                let other = world.record(TOPIC, |record| record.key != key);
                let taken = std::mem::replace(&mut other.value, value);
                world.record(TOPIC, |record| record.coordinates == place).value = taken;
            },
            &[(Altered, Notification); 2],
        ),
    ]);
    assert_eq!(reported[0].place, Place::Topic { topic: "n".into(), at: None });
    assert!(reported[0].id.as_ref().unwrap().ends_with("/0") && reported[0].command.is_some());
    let Place::Topic { at: Some(At { partition, .. }), .. } = reported[1].place else {
        panic!("{:?}", reported[1])
    };
    assert!(reported[1].details.contains(&format!("it is there already, at partition {partition} offset ")));
    assert!(reported[4].details.ends_with("value differs"), "{:?}", reported[4]);
    assert!(reported[5].details.ends_with("key differs"), "{:?}", reported[5]);
    assert!(reported[7].details.ends_with("headers differs"), "{:?}", reported[7]);
}

#[test]
fn finds_each_fault_on_the_rejections_topic() {
    const TOPIC: Topic = Topic::Rejections;
    plant(&[
        ("lost", &|world| drop(remove(world, TOPIC)), &[(Lost, Rejection)]),
        ("doubled", &|world| again(world, TOPIC, |_| {}), &[(Doubled, Rejection)]),
        ("value", &|world| fifth(world, TOPIC).value = Some("{".into()), &[(Altered, Rejection)]),
        ("no value", &|world| fifth(world, TOPIC).value = None, &[(Altered, Rejection)]),
        ("key", &|world| replace(&mut fifth(world, TOPIC).key, "k", "q"), &[(Altered, Rejection)]),
        (
            "code of the rejection",
            &|world| {
                let header = header(fifth(world, TOPIC), "__connect.errors.exception.class.name");
                header.value = Some("missing".into());
            },
            &[(Altered, Rejection)],
        ),
        (
            "a header of the command",
            &|world| fifth(world, TOPIC).headers.insert(0, Header::new("a", "b")),
            &[(Altered, Rejection)],
        ),
        (
            "of a command that is an event",
            &|world| {
                again(world, TOPIC, |record| {
                    header(record, "__connect.errors.partition").value = Some("0".into());
                    header(record, "__connect.errors.offset").value = Some("6".into());
                });
            },
            &[(Foreign, Rejection)],
        ),
        (
            "of no command",
            &|world| {
                again(world, TOPIC, |record| {
                    header(record, "__connect.errors.offset").value = Some("-1".into());
                });
            },
            &[(Foreign, Rejection)],
        ),
        (
            "of another topic",
            &|world| {
                again(world, TOPIC, |record| {
                    header(record, "__connect.errors.topic").value = Some("c".into());
                });
            },
            &[(Foreign, Rejection)],
        ),
        ("nobody's", &|world| again(world, TOPIC, |record| record.headers.clear()), &[(Foreign, Rejection)]),
    ]);
}

const PROBLEMS: &str = "__connect.errors.exception.message";

/// Changes the problems of the first rejection that has two, in its last header of that name.
fn change_problems(world: &mut World, change: impl Fn(&mut Vec<Problem>)) {
    let read = |record: &Record| {
        let header = record.headers.iter().rfind(|header| header.name == PROBLEMS.as_bytes())?;
        serde_json::from_slice::<Problems>(header.value.as_deref()?)
            .ok()
            .filter(|problems| problems.0.len() == 2)
    };
    let record = world.record(Topic::Rejections, |record| read(record).is_some());
    let mut problems = read(record).unwrap();
    change(&mut problems.0);
    header(record, PROBLEMS).value = Some(problems.to_json().into());
}

fn reword(problem: &mut Problem) {
    problem.message = "in \"other\" words".to_owned();
}

#[test]
fn compares_the_problems_of_rejections_without_their_messages() {
    let altered = &[(Altered, Rejection)];
    let set = |value: Option<&'static str>| {
        move |world: &mut World| {
            let value = value.map(Bytes::from);
            header(fifth(world, Topic::Rejections), PROBLEMS).value = value;
        }
    };
    plant(&[
        ("messages", &|world| change_problems(world, |problems| problems.iter_mut().for_each(reword)), &[]),
        (
            "first code",
            &|world| change_problems(world, |problems| problems[0].code = "missing".into()),
            altered,
        ),
        (
            "second code",
            &|world| change_problems(world, |problems| problems[1].code = "missing".into()),
            altered,
        ),
        (
            "pointer",
            &|world| change_problems(world, |problems| problems[1].pointer = "/targets/0".into()),
            altered,
        ),
        ("order", &|world| change_problems(world, |problems| problems.swap(0, 1)), altered),
        ("one problem less", &|world| change_problems(world, |problems| problems.truncate(1)), altered),
        (
            "one problem more",
            &|world| change_problems(world, |problems| problems.push(problems[1].clone())),
            altered,
        ),
        ("no problems", &|world| change_problems(world, Vec::clear), altered),
        ("unreadable", &set(Some("[")), altered),
        ("empty", &set(Some("")), altered),
        ("null", &set(None), altered),
    ]);
}

/// As if another tool had copied a rejection to the commands topic.
#[test]
fn compares_every_byte_of_the_rejection_that_is_a_command_itself() {
    for is_retained in [true, false] {
        let mut world = World::new(0);
        let mut command = World::sample(1);
        let first = [
            ("__connect.errors.topic", world::TOPIC),
            (PROBLEMS, r#"[{"pointer":"","code":"not_json","message":"said before"}]"#),
        ];
        command.headers.extend(first.map(|(name, value)| Header::new(name, value)));
        world.topic(Topic::Commands)[0].push(command);
        world.committed.clear();
        world.process_again();
        if !is_retained {
            world.delete(Topic::Commands, 1);
        }
        change_problems(&mut world, |problems| problems.iter_mut().for_each(reword));
        assert_eq!(world.verify().deviations, []);

        let record = world.record(Topic::Rejections, |_| true);
        assert_eq!(*record.headers[1].name, *PROBLEMS.as_bytes());
        replace(&mut record.headers[1].value, "said before", "said later");
        let kinds: Vec<_> = world.verify().deviations.iter().map(|found| (found.kind, found.what)).collect();
        assert_eq!(kinds, [(Altered, Rejection)], "retained: {is_retained}");
    }
}

/// Faults by chance, several at once, anywhere: never is all said to be well.
#[test]
fn finds_random_changes() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(COMMANDS);
        let mut left = random.u8(1..4);
        while left > 0 {
            let topic = if random.bool() { Topic::Notifications } else { Topic::Rejections };
            let partition = &mut world.topic(topic)[random.usize(0..3)];
            if partition.records.is_empty() {
                continue;
            }
            left -= 1;
            let record = random.usize(0..partition.records.len());
            let changed = &mut partition.records[record];
            match random.u8(0..5) {
                0 => drop(partition.records.remove(record)),
                1 => lengthen(&mut changed.value),
                2 => lengthen(&mut changed.key),
                3 => changed.headers.insert(0, Header::new("a", random.u64(..).to_string())),
                _ => {
                    let again = changed.clone();
                    partition.push(again);
                }
            }
        }
        let reported = world.verify();
        assert_ne!(reported.deviations, [], "seed {seed}");
    }
}
