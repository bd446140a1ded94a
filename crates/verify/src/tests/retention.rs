//! What the brokers have deleted, or hold back: said, and neither passed in silence nor taken for a fault.

use contract::{ActivityId, DeadLetter, Header, Record};

use super::*;

fn delete(world: &mut World, topic: Topic, below: i64) {
    world.delete(topic, below);
}

fn reasons(told: &Told) -> Vec<(String, i32, Reason)> {
    told.unchecked.iter().map(|u| (u.topic.clone(), u.partition, u.reason)).collect()
}

fn found(told: &Told) -> Vec<(Kind, What)> {
    told.deviations.iter().map(|deviation| (deviation.kind, deviation.what)).collect()
}

use world::Partition;

const COMMANDS_TOPIC: &str = world::TOPIC;

#[test]
fn where_commands_are_gone_the_log_is_believed_and_that_is_said() {
    let mut world = World::new(COMMANDS);
    let all = world.verify().summary;
    delete(&mut world, Topic::Commands, 40);
    let told = world.verify();
    assert_eq!(told.deviations, []);
    assert_eq!(
        reasons(&told),
        [
            (COMMANDS_TOPIC.to_owned(), 0, Reason::CommandsDeleted),
            (COMMANDS_TOPIC.to_owned(), 0, Reason::KeyForgotten),
            (COMMANDS_TOPIC.to_owned(), 1, Reason::CommandsDeleted),
            (COMMANDS_TOPIC.to_owned(), 1, Reason::KeyForgotten),
        ]
    );
    let Some(gone) = told.unchecked.first() else { panic!() };
    assert!(gone.first_offset == 0 || gone.first_offset == 1, "{gone:?}");
    assert!(gone.next_offset <= 40 && gone.count.unwrap() > 30, "{gone:?}");
    let unchecked = all.unchecked;
    assert_eq!(
        (told.summary.commands, told.summary.notifications, unchecked),
        (all.commands, all.notifications, 0)
    );
}

/// Record by record, from the log alone.
#[test]
fn where_commands_are_gone_the_output_is_held_against_the_log() {
    let deviations = |change: &dyn Fn(&mut World)| {
        let mut world = World::new(COMMANDS);
        world.add_log(0..i64::MAX);
        delete(&mut world, Topic::Commands, 40);
        change(&mut world);
        found(&world.verify())
    };
    let is_traced = |record: &Record| record.headers.iter().any(|header| *header.name == *b"traceparent");
    assert_eq!(
        deviations(&|world| drop(world.take(Topic::Notifications, |record| record.coordinates.offset == 4))),
        [(Kind::Lost, What::Notification)]
    );
    assert_eq!(
        deviations(&|world| world.record(Topic::Notifications, |_| true).key = None),
        [(Kind::Altered, What::Notification)]
    );
    // The log does not keep the trace, so it can't be held against anything.
    assert_eq!(deviations(&|world| drop(world.record(Topic::Notifications, is_traced).headers.pop())), []);
    assert_eq!(
        deviations(&|world| world.record(Topic::Rejections, |_| true).value = None),
        [(Kind::Altered, What::Rejection)]
    );
    assert_eq!(
        deviations(&|world| world.record(Topic::Rejections, |_| true).headers[0].value = None),
        [(Kind::Foreign, What::Rejection), (Kind::Lost, What::Rejection)]
    );
    assert_eq!(
        deviations(&|world| world
            .record(Topic::Rejections, |_| true)
            .headers
            .insert(0, Header::new("a", "b"))),
        [(Kind::Altered, What::Rejection)]
    );
    assert_eq!(
        deviations(&|world| {
            let position = "SELECT min(position) FROM events WHERE json LIKE '%\"notify\":true%'";
            world.sql(0, &format!("UPDATE events SET json = '{{}}' WHERE position = ({position})"));
        }),
        // What is unreadable leads to nothing: neither in the other log, nor on the topic.
        [(Kind::Altered, What::Event), (Kind::Foreign, What::Event), (Kind::Foreign, What::Notification)]
    );
    assert_eq!(
        deviations(&|world| world.sql(1, "UPDATE events SET object_id = 'x' WHERE position = 1")),
        [(Kind::Altered, What::Event)]
    );
    assert_eq!(
        deviations(&|world| {
            let copy = "INSERT INTO events SELECT (SELECT max(position) + 1 FROM events), partition, offset, timestamp, checksum, \
                        object_type, object_id, json, 0 FROM events WHERE position = 1; \
                        UPDATE cursors SET events = events + 1 WHERE partition = 0";
            world.sql(0, copy);
        }),
        // Two rows lead to the same notification twice: expected once, since it has one id.
        [(Kind::Misplaced, What::Event)]
    );
}

#[test]
fn where_neither_the_topic_nor_a_log_knows_nothing_is_judged() {
    let mut world = World::new(COMMANDS);
    world.add_log(40..i64::MAX);
    world.logs.remove(0);
    delete(&mut world, Topic::Commands, 40);
    world.record(Topic::Notifications, |_| true).value.as_mut().unwrap().push(b' ');
    let told = world.verify();
    // Keys of the commands that are gone are not known, and this log began without them.
    assert_eq!(
        told.deviations.iter().filter(|d| d.what == What::Commands).collect::<Vec<_>>(),
        Vec::<&Deviation>::new()
    );
    let no_witness = told.unchecked.iter().find(|unchecked| unchecked.reason == Reason::NoWitness).unwrap();
    assert_eq!((no_witness.first_offset, no_witness.next_offset, no_witness.count), (0, 40, None));
}

#[test]
fn a_duplicate_of_a_command_that_is_gone_is_believed_while_its_key_could_be_remembered() {
    let mut world = World::new(COMMANDS);
    // Between the first command with a key and its duplicate.
    let first =
        world.topic(Topic::Commands)[0].records.iter().find(|record| !record.headers.is_empty()).unwrap();
    let offset = first.coordinates.offset;
    delete(&mut world, Topic::Commands, offset + 1);
    let told = world.verify();
    assert_eq!(told.deviations, []);
    let forgotten =
        told.unchecked.iter().find(|u| u.reason == Reason::KeyForgotten && u.partition == 0).unwrap();
    assert!(forgotten.count.unwrap() >= 2 && forgotten.first_offset == offset + 1, "{forgotten:?}");
    assert!(
        forgotten.next_offset < world.committed[0].unwrap() / 2,
        "beyond the window all is known: {forgotten:?}"
    );
    // What the log says there is believed, and what follows from it must be there all the same.
    world.sql(0, &format!("DELETE FROM duplicates WHERE partition = 0 AND offset = {}", offset + 1));
    let kinds = found(&world.verify());
    assert!(kinds.contains(&(Kind::Lost, What::Event)), "{kinds:?}");
}

#[test]
fn output_that_may_have_been_deleted_is_not_called_lost() {
    let mut world = World::new(COMMANDS);
    delete(&mut world, Topic::Notifications, 10);
    delete(&mut world, Topic::Rejections, 10);
    let told = world.verify();
    assert_eq!(told.deviations, []);
    assert!(told.unchecked.iter().all(|unchecked| unchecked.reason == Reason::OutputDeleted));
    assert_eq!(told.unchecked[0].topic, COMMANDS_TOPIC);
    let before = told.unchecked;

    // What is missing behind that is lost, and what is left is still compared.
    let last = |world: &mut World, topic| world.topic(topic)[1].records.last().unwrap().clone();
    let (one, other) = (last(&mut world, Topic::Notifications), last(&mut world, Topic::Rejections));
    world.take(Topic::Notifications, |record| *record == one);
    world.record(Topic::Rejections, |record| *record == other).key = None;
    let again = world.record(Topic::Notifications, |_| true).clone();
    world.topic(Topic::Notifications)[again.coordinates.partition as usize].push(again);
    let told = world.verify();
    let mut kinds = found(&told);
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            (Kind::Lost, What::Notification),
            (Kind::Doubled, What::Notification),
            (Kind::Altered, What::Rejection)
        ]
    );
    assert_eq!(told.unchecked, before);
}

#[test]
fn what_an_open_transaction_holds_back_is_not_called_lost() {
    let mut world = World::new(COMMANDS);
    let partition = &mut world.topic(Topic::Notifications)[1];
    let from = partition.end - 5;
    partition.held_back = Some(from);
    let told = world.verify();
    assert_eq!(told.deviations, []);
    let held_back: Vec<_> = told.unchecked.iter().filter(|u| u.reason == Reason::HeldBack).collect();
    assert_eq!(held_back.len(), 1);
    assert_eq!(
        (held_back[0].topic.as_str(), held_back[0].partition, held_back[0].first_offset),
        ("n", 1, from)
    );
    let missing: u64 =
        told.unchecked.iter().filter(|u| u.reason == Reason::OutputHeldBack).filter_map(|u| u.count).sum();
    assert_eq!(missing, 5);
    // What is missing in front of it is lost.
    world.take(Topic::Notifications, |record| record.coordinates.offset == 2);
    assert_eq!(found(&world.verify()), [(Kind::Lost, What::Notification)]);
}

/// Two commands that are no JSON, both of whose rejections left the value behind: the first under another limit than is
/// configured now.
fn rejections_that_left_a_part_behind() -> World {
    let mut world = World::new(0);
    for size in [2_000, 3 << 20] {
        let mut record = World::sample(1);
        record.value = Some(vec![b'x'; size]);
        record.headers.push(Header::new("h", "of the command"));
        world.topic(Topic::Commands)[0].push(record);
    }
    world.committed.clear();
    world.rejection_bytes = 2_000;
    world.process_again();
    world
}

#[test]
fn a_rejection_that_left_a_part_behind_under_another_limit_is_said() {
    let mut world = rejections_that_left_a_part_behind();
    let told = world.verify();
    assert_eq!(told.deviations, []);
    assert_eq!(reasons(&told), [("r".to_owned(), 0, Reason::LimitUnknown)]);
    assert_eq!(told.unchecked[0].count, Some(1));

    world.topic(Topic::Rejections)[0].records.remove(0);
    assert_eq!(found(&world.verify()), [(Kind::Lost, What::Rejection)]);
}

/// What is planted, and what it is called.
type Change<'a> = (&'a str, &'a dyn Fn(&mut Record));

/// Of a command that is gone less can be compared, and that is.
#[test]
fn a_rejection_that_left_a_part_behind_passes_with_no_other_content() {
    let omitted = |record: &mut Record, parts: &str| {
        record.headers.last_mut().unwrap().value = Some(parts.into());
    };
    let of_any: [Change<'_>; 7] = [
        ("a value after all", &|record| record.value = Some(b"y".to_vec())),
        ("other parts", &|record| omitted(record, "value,key")),
        ("more than it says", &|record| record.headers[6].value = Some(b"other".to_vec())),
        ("headers that it says to lack", &|record| omitted(record, "value,headers")),
        ("a key that it says to lack", &|record| {
            omitted(record, "value,headers,key");
            record.headers.remove(0);
        }),
        ("nothing that says so", &|record| drop(record.headers.pop())),
        ("a header behind", &|record| record.headers.push(Header::new("x", ""))),
    ];
    let of_retained: [Change<'_>; 4] = [
        ("key", &|record| record.key = Some(b"x".to_vec())),
        ("no key", &|record| record.key = None),
        ("the command's header", &|record| record.headers[0].value = None),
        ("no header of the command's", &|record| drop(record.headers.remove(0))),
    ];
    let plant = |retained: bool, (name, change): &Change<'_>| {
        let mut world = rejections_that_left_a_part_behind();
        if !retained {
            delete(&mut world, Topic::Commands, 2);
            assert_eq!(world.verify().deviations, []);
        }
        for index in 0..2 {
            let partition = rejections(&mut world);
            let as_it_was = partition.records[index].clone();
            change(&mut partition.records[index]);
            assert_eq!(found(&world.verify()), [(Kind::Altered, What::Rejection)], "{name}, {index}");
            rejections(&mut world).records[index] = as_it_was;
        }
    };
    of_any.iter().for_each(|change| {
        plant(true, change);
        plant(false, change);
    });
    of_retained.iter().for_each(|change| plant(true, change));
}

fn rejections(world: &mut World) -> &mut Partition {
    world.topic(Topic::Rejections).iter_mut().find(|partition| !partition.records.is_empty()).unwrap()
}

/// A world without the last notification of all, whose topic goes on being deleted.
fn one_lost_and(later: (Topic, usize, i64)) -> World {
    let mut world = World::new(COMMANDS);
    let last =
        world.topic(Topic::Notifications).iter().flat_map(|p| &p.records).map(command_of).max().unwrap();
    world.take(Topic::Notifications, |record| command_of(record) == last);
    world.deleted_later = Some(later);
    world
}

#[test]
fn output_that_is_deleted_between_two_readings_is_not_called_lost() {
    for sizes in [Sizes::default(), world::TINY] {
        let told = one_lost_and((Topic::Notifications, 1, 3)).try_verify(sizes).unwrap();
        assert_eq!(found(&told), [(Kind::Lost, What::Notification)]);
        let meanwhile = told.unchecked.iter().filter(|u| u.reason == Reason::DeletedMeanwhile);
        let stretches: Vec<_> = meanwhile.map(|u| (u.partition, u.first_offset, u.next_offset)).collect();
        // Nothing is in the other one.
        assert_eq!(stretches, [(1, 0, 3), (2, 0, 3)]);
    }
}

/// Where retention is at work the output differs at its beginning in any case: to start again would not help, as it
/// does with commands.
#[test]
fn what_differed_in_output_that_is_deleted_between_two_readings_is_said_to_be_unchecked() {
    for is_altered in [false, true] {
        let mut world = World::new(COMMANDS);
        delete(&mut world, Topic::Notifications, 2);
        if is_altered {
            world.topic(Topic::Notifications)[1].records[1].value = Some(b"{}".to_vec());
            assert_eq!(found(&world.verify()), [(Kind::Altered, What::Notification)]);
        }
        world.deleted_later = Some((Topic::Notifications, 1, 5));
        let told = world.try_verify(Sizes::default()).unwrap();
        assert_eq!(found(&told), []);
        let meanwhile = told.unchecked.iter().filter(|u| u.reason == Reason::DeletedMeanwhile);
        let stretches: Vec<_> = meanwhile.map(|u| (u.partition, u.first_offset, u.next_offset)).collect();
        assert_eq!(stretches, [(1, 2, 5), (2, 2, 5)], "{is_altered}");
    }
}

#[test]
fn commands_that_are_deleted_before_what_deviates_is_known_end_it_with_a_sentence() {
    // Once for the log's anchors, once for each partition.
    let readings = 1 + world::PARTITIONS as usize;
    let refused = one_lost_and((Topic::Commands, readings, 1_000))
        .try_verify(Sizes::default())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("something deviates in offsets"), "{refused}");
    assert!(refused.ends_with("Try again"), "{refused}");
    // What is deleted where nothing deviates is not needed any more.
    let told = one_lost_and((Topic::Commands, readings, 10)).try_verify(Sizes::default()).unwrap();
    assert_eq!(found(&told), [(Kind::Lost, What::Notification)]);
}

/// That nobody decided them is not passed over, though nothing is left to compare.
#[test]
fn commands_that_were_deleted_undecided_are_said() {
    let mut world = World::new(COMMANDS);
    delete(&mut world, Topic::Commands, 60);
    world.committed[0] = Some(40);
    let told = world.verify();
    let undecided: Vec<_> =
        told.unchecked.iter().filter(|unchecked| unchecked.reason == Reason::Undecided).collect();
    assert_eq!(undecided.len(), 1, "{:?}", told.unchecked);
    let stretch = undecided[0];
    assert_eq!((stretch.partition, stretch.first_offset, stretch.next_offset), (0, 40, 60));
}

/// The offset of the command that led to a notification or a rejection.
fn command_of(record: &Record) -> i64 {
    if let Some(letter) = DeadLetter::of(record) {
        return letter.at.offset;
    }
    let id = record.headers.iter().find(|header| *header.name == *b"ce_id").unwrap();
    let id = std::str::from_utf8(id.value.as_deref().unwrap()).unwrap();
    id.split('/').next().unwrap().parse::<ActivityId>().unwrap().offset()
}

/// A key that may have been used before excuses no second copy.
#[test]
fn what_is_there_twice_is_told_even_where_keys_are_forgotten() {
    let mut world = World::new(COMMANDS);
    world.add_log(40..i64::MAX);
    delete(&mut world, Topic::Commands, 40);
    world.logs.remove(0);
    let before = world.verify();
    assert_eq!(before.deviations, []);
    assert!(before.unchecked.iter().any(|unchecked| unchecked.reason == Reason::KeyForgotten));
    // All of it, so what follows keys that are in doubt as well.
    let mut planted = 0;
    for topic in [Topic::Notifications, Topic::Rejections] {
        for partition in 0..2 {
            let mut all = world.topic(topic)[partition].records.clone();
            // What neither topic nor log holds is not judged.
            all.retain(|record| command_of(record) >= 40);
            planted += all.len();
            all.into_iter().for_each(|again| world.topic(topic)[partition].push(again));
        }
    }
    let kinds = found(&world.verify());
    assert!(kinds.iter().all(|(kind, _)| *kind == Kind::Doubled), "{kinds:?}");
    assert_eq!(kinds.len(), planted);
}

/// A log that began after commands were gone takes a repetition of one for a new command, and so do later ones that
/// repeat it. What was published long ago does not follow it.
#[test]
fn a_log_that_did_not_know_a_key_may_have_decided_otherwise() {
    let mut world = World::new(COMMANDS);
    let keyed = |record: &&Record| record.headers.iter().any(|header| *header.name == *b"idempotency-key");
    let first = world.topic(Topic::Commands)[0].records.iter().find(keyed).unwrap().coordinates.offset;
    world.add_log(first + 1..i64::MAX);
    // A repetition that no log but the first takes for one.
    let events = |world: &World, log: usize| {
        let reader = event_log::LogReader::open(&world.logs[log]).unwrap();
        reader.recorded(0, first + 1..first + 2).unwrap().remove(0).decision
    };
    assert!(matches!(events(&world, 0), contract::Decision::Duplicate { .. }));
    assert!(matches!(events(&world, 1), contract::Decision::Accepted(_)));

    // While the topic holds everything, that is a deviation.
    let kinds = found(&world.verify());
    assert!(kinds.contains(&(Kind::Altered, What::Event)), "{kinds:?}");
    let all = world.logs.clone();
    for start in [first + 1, first + 20, 60] {
        delete(&mut world, Topic::Commands, start);
        for logs in [&[0, 1][..], &[1, 0], &[1]] {
            world.logs = logs.iter().map(|&log| all[log].clone()).collect();
            let told = world.verify();
            assert_eq!(told.deviations, [], "start {start}, logs {logs:?}");
            let is_said = told.unchecked.iter().any(|unchecked| unchecked.reason == Reason::KeyForgotten);
            assert!(is_said || start == 60, "start {start}, logs {logs:?}");
        }
    }
}
