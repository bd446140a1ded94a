//! One fault at a time: each must be found, named by what it is and where it lies, and nothing else with it.

use super::*;
use crate::activity::{Header, Record, topic_bits};

type Fault<'a> = (&'a str, &'a dyn Fn(&mut World), &'a [(Kind, What)]);

/// Plants it, and looks at what is told.
#[track_caller]
fn plant(faults: &[Fault<'_>]) -> Vec<Deviation> {
    let mut all = Vec::new();
    for (name, change, wanted) in faults {
        let mut world = World::new(COMMANDS);
        change(&mut world);
        let told = world.verify();
        let mut found: Vec<_> =
            told.deviations.iter().map(|deviation| (deviation.kind, deviation.what)).collect();
        found.sort_unstable();
        assert_eq!(&found, wanted, "{name}: {:#?}", told.deviations);
        assert_eq!(told.unchecked, [], "{name}");
        all.extend(told.deviations);
    }
    all
}

use Kind::{Altered, Doubled, Foreign, Lost, Miscounted, Misplaced};
use What::{Duplicate, Event, Notification, Rejection};

#[test]
fn in_the_log_events() {
    // Another row needs a position, and the cursors' counts must agree with it or the log is not even opened.
    let insert = |columns: &str, filter: &str| {
        format!(
            "INSERT INTO events SELECT (SELECT max(position) + 1 FROM events), {columns} FROM events WHERE {filter}; \
             UPDATE cursors SET events = events + 1 WHERE partition = 0;"
        )
    };
    let copy = "partition, offset, timestamp, checksum, object_type, object_id, json";
    let faults: &[Fault<'_>] = &[
        (
            "lost",
            &|world| world.sql(0, "DELETE FROM events WHERE position = 17"),
            &[(Lost, Event), (Miscounted, Event)],
        ),
        (
            "doubled",
            &|world| world.sql(0, &insert(copy, "position = 17")),
            // The second one is not where the log looks for it.
            &[(Doubled, Event), (Misplaced, Event)],
        ),
        (
            "foreign",
            &|world| {
                // Offset 1 of partition 0 is a control record.
                let columns = copy.replace("offset", "1");
                world.sql(0, &insert(&columns, "position = 1"));
            },
            &[(Foreign, Event), (Misplaced, Event)],
        ),
        (
            "of an unknown partition",
            &|world| {
                let columns = copy.replace("partition", "7");
                world.sql(0, &insert(&columns, "position = 1"));
            },
            &[(Foreign, Event), (Miscounted, Event)],
        ),
        (
            "content",
            &|world| {
                world.sql(0, "UPDATE events SET json = replace(json, '\"n\"', '\"m\"') WHERE position = 17")
            },
            &[(Altered, Event)],
        ),
        (
            "object",
            &|world| world.sql(0, "UPDATE events SET object_id = 'x' WHERE position = 17"),
            &[(Altered, Event)],
        ),
        (
            "checksum",
            &|world| world.sql(0, "UPDATE events SET checksum = checksum + 1 WHERE position = 17"),
            &[(Altered, Event)],
        ),
        (
            "timestamp",
            &|world| world.sql(0, "UPDATE events SET timestamp = timestamp + 1 WHERE position = 17"),
            &[(Altered, Event)],
        ),
        (
            "a batch that is gone",
            &|world| world.sql(0, "DELETE FROM batches WHERE first_position = 1"),
            &[(Misplaced, Event); 4],
        ),
        (
            "two that changed places",
            &|world| {
                world.sql(
                    0,
                    "UPDATE events SET position = -1 WHERE position = 17; UPDATE events SET position = 17 WHERE position = 18; \
                     UPDATE events SET position = 18 WHERE position = -1;",
                );
            },
            &[(Misplaced, Event)],
        ),
        (
            "an event of what is a duplicate",
            &|world| {
                let of = "(SELECT min(offset) FROM duplicates WHERE partition = 0)";
                world.sql(0, &insert(&copy.replace("offset", of), "position = 17 AND partition = 0"));
            },
            &[(Doubled, Event), (Misplaced, Event)],
        ),
        (
            "what is said to be a duplicate",
            &|world| {
                world.sql(
                    0,
                    "INSERT INTO duplicates SELECT partition, offset, timestamp, checksum, 0, 0 FROM events WHERE position = 1;",
                );
            },
            &[(Doubled, Duplicate)],
        ),
    ];
    let told = plant(faults);
    let lost = told.iter().find(|deviation| deviation.kind == Lost).unwrap();
    assert!(matches!(lost.place, Place::Log { position: None, .. }) && lost.command.is_some(), "{lost:?}");
    let doubled = told.iter().find(|deviation| deviation.kind == Doubled).unwrap();
    assert!(matches!(doubled.place, Place::Log { position: Some(_), .. }), "{doubled:?}");
}

#[test]
fn in_the_log_duplicates_and_rejections() {
    let first = "(partition, offset) = (SELECT partition, offset FROM TABLE LIMIT 1)";
    let sql = |text: &str, table: &str| {
        let text = text.replace("FIRST", first).replace("TABLE", table);
        move |world: &mut World| world.sql(0, &text)
    };
    let delete = "DELETE FROM TABLE WHERE FIRST";
    // Offset 1 of partition 0 is a control record.
    let foreign = "INSERT INTO TABLE SELECT 0, 1, timestamp, checksum, REST FROM TABLE LIMIT 1";
    plant(&[
        ("lost", &sql(delete, "duplicates"), &[(Lost, Duplicate)]),
        ("lost", &sql(delete, "rejections"), &[(Lost, Rejection)]),
        (
            "foreign",
            &sql(&foreign.replace("REST", "of_offset, of_timestamp"), "duplicates"),
            &[(Foreign, Duplicate)],
        ),
        ("foreign", &sql(&foreign.replace("REST", "problems"), "rejections"), &[(Foreign, Rejection)]),
        (
            "of another",
            &sql("UPDATE TABLE SET of_offset = of_offset - 1 WHERE FIRST", "duplicates"),
            &[(Altered, Duplicate)],
        ),
        (
            "of another time",
            &sql("UPDATE TABLE SET of_timestamp = 0 WHERE FIRST", "duplicates"),
            &[(Altered, Duplicate)],
        ),
        (
            "checksum",
            &sql("UPDATE TABLE SET checksum = 0 WHERE FIRST", "duplicates"),
            &[(Altered, Duplicate)],
        ),
        (
            "checksum",
            &sql("UPDATE TABLE SET checksum = 0 WHERE FIRST", "rejections"),
            &[(Altered, Rejection)],
        ),
        (
            "timestamp",
            &sql("UPDATE TABLE SET timestamp = 0 WHERE FIRST", "rejections"),
            &[(Altered, Rejection)],
        ),
        (
            "problems",
            &sql(
                "UPDATE TABLE SET problems = replace(problems, 'expected', 'wanted') WHERE FIRST",
                "rejections",
            ),
            &[(Altered, Rejection)],
        ),
        (
            "a rejection of what is a duplicate",
            &|world| {
                world.sql(
                    0,
                    "INSERT INTO rejections SELECT partition, offset, timestamp, checksum, (SELECT problems FROM rejections) \
                     FROM duplicates LIMIT 1;",
                );
            },
            &[(Doubled, Rejection)],
        ),
        (
            "beyond the log's own end",
            &|world| {
                world.sql_uncounted(
                    0,
                    "INSERT INTO rejections SELECT 0, 100000, timestamp, checksum, problems FROM rejections LIMIT 1",
                );
            },
            &[(Foreign, Rejection)],
        ),
        (
            "in a gap",
            &|world| {
                world.sql(
                    0,
                    "INSERT INTO gaps SELECT partition, offset, offset + 1, 'x' FROM rejections LIMIT 1",
                )
            },
            // The topic holds it still, so the log has no business to have a gap there.
            &[(Lost, What::Commands), (Foreign, Rejection)],
        ),
        (
            "miscounted",
            &|world| {
                world.sql_uncounted(0, "UPDATE cursors SET rejections = rejections + 1 WHERE partition = 1")
            },
            &[(Miscounted, Rejection)],
        ),
    ]);
}

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

fn replace(bytes: &mut Option<Vec<u8>>, from: &str, to: &str) {
    let text = String::from_utf8(bytes.take().unwrap()).unwrap();
    assert!(text.contains(from), "{text}");
    *bytes = Some(text.replace(from, to).into_bytes());
}

fn header<'a>(record: &'a mut Record, name: &str) -> &'a mut Header {
    record.headers.iter_mut().rev().find(|header| header.name == name.as_bytes()).unwrap()
}

fn remove(world: &mut World, topic: Topic) -> Record {
    let record = fifth(world, topic).clone();
    world.take(topic, |other| *other == record)
}

#[test]
fn on_the_topic_of_notifications() {
    const TOPIC: Topic = Topic::Notifications;
    let traced = |world: &mut World, change: &dyn Fn(&mut Record)| {
        change(
            world.record(TOPIC, |record| record.headers.iter().any(|header| header.name == b"traceparent")),
        );
    };
    let told = plant(&[
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
            &|world| traced(world, &|record| header(record, "traceparent").value = Some(b"00".to_vec())),
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
                    record.value = Some(b"{}".to_vec());
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
    assert_eq!(told[0].place, Place::Topic { topic: "n".into(), at: None });
    assert!(told[0].id.as_ref().unwrap().ends_with("/0") && told[0].command.is_some());
    let Place::Topic { at: Some(At { partition, .. }), .. } = told[1].place else { panic!("{:?}", told[1]) };
    assert!(told[1].details.contains(&format!("it is there already, at partition {partition} offset ")));
    assert!(told[4].details.ends_with("value differs"), "{:?}", told[4]);
    assert!(told[5].details.ends_with("key differs"), "{:?}", told[5]);
    assert!(told[7].details.ends_with("headers differs"), "{:?}", told[7]);
}

#[test]
fn on_the_topic_of_rejections() {
    const TOPIC: Topic = Topic::Rejections;
    plant(&[
        ("lost", &|world| drop(remove(world, TOPIC)), &[(Lost, Rejection)]),
        ("doubled", &|world| again(world, TOPIC, |_| {}), &[(Doubled, Rejection)]),
        ("value", &|world| fifth(world, TOPIC).value = Some(b"{".to_vec()), &[(Altered, Rejection)]),
        ("no value", &|world| fifth(world, TOPIC).value = None, &[(Altered, Rejection)]),
        ("key", &|world| replace(&mut fifth(world, TOPIC).key, "k", "q"), &[(Altered, Rejection)]),
        (
            "problems",
            &|world| {
                let header = header(fifth(world, TOPIC), "__connect.errors.exception.message");
                replace(&mut header.value, "expected", "wanted");
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
                    header(record, "__connect.errors.partition").value = Some(b"0".to_vec());
                    header(record, "__connect.errors.offset").value = Some(b"6".to_vec());
                });
            },
            &[(Foreign, Rejection)],
        ),
        (
            "of no command",
            &|world| {
                again(world, TOPIC, |record| {
                    header(record, "__connect.errors.offset").value = Some(b"-1".to_vec())
                })
            },
            &[(Foreign, Rejection)],
        ),
        (
            "of another topic",
            &|world| {
                again(world, TOPIC, |record| {
                    header(record, "__connect.errors.topic").value = Some(b"c".to_vec())
                })
            },
            &[(Foreign, Rejection)],
        ),
        ("nobody's", &|world| again(world, TOPIC, |record| record.headers.clear()), &[(Foreign, Rejection)]),
    ]);
}

/// Faults by chance, several at once, anywhere: never is all said to be well.
#[test]
fn no_change_passes() {
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
                1 => changed.value.get_or_insert_default().push(b' '),
                2 => changed.key.get_or_insert_default().push(b' '),
                3 => changed.headers.insert(0, Header::new("a", random.u64(..).to_string())),
                _ => {
                    let again = changed.clone();
                    partition.push(again);
                }
            }
        }
        let told = world.verify();
        assert_ne!(told.deviations, [], "seed {seed}");
    }
}
