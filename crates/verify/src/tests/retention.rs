//! Deleted or hidden records: they must be reported as unchecked, neither ignored nor reported as deviations.

use contract::{ActivityId, DeadLetter, Header, Record};

use super::*;

fn delete(world: &mut World, topic: Topic, below: i64) {
    world.delete(topic, below);
}

fn reasons(reported: &Reported) -> Vec<(String, i32, Reason)> {
    reported.unchecked.iter().map(|u| (u.topic.clone(), u.partition, u.reason)).collect()
}

fn found(reported: &Reported) -> Vec<(Kind, What)> {
    reported.deviations.iter().map(|deviation| (deviation.kind, deviation.what)).collect()
}

use world::Partition;

const COMMANDS_TOPIC: &str = world::TOPIC;

#[test]
fn trusts_the_log_where_commands_are_deleted_and_reports_them_as_unchecked() {
    let mut world = World::new(COMMANDS);
    let all = world.verify().summary;
    delete(&mut world, Topic::Commands, 40);
    let reported = world.verify();
    assert_eq!(reported.deviations, []);
    assert_eq!(
        reasons(&reported),
        [
            (COMMANDS_TOPIC.to_owned(), 0, Reason::CommandsDeleted),
            (COMMANDS_TOPIC.to_owned(), 0, Reason::KeyForgotten),
            (COMMANDS_TOPIC.to_owned(), 1, Reason::CommandsDeleted),
            (COMMANDS_TOPIC.to_owned(), 1, Reason::KeyForgotten),
        ]
    );
    let Some(gone) = reported.unchecked.first() else { panic!() };
    assert!(gone.first_offset == 0 || gone.first_offset == 1, "{gone:?}");
    assert!(gone.next_offset <= 40 && gone.count.unwrap() > 30, "{gone:?}");
    let unchecked = all.unchecked;
    assert_eq!(
        (reported.summary.commands, reported.summary.notifications, unchecked),
        (all.commands, all.notifications, 0)
    );
}

/// Record by record, from the log alone.
#[test]
fn compares_output_with_the_log_where_commands_are_deleted() {
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
    // The log does not store the trace, so there is nothing to compare it with.
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
        // An unreadable row makes nothing expected, neither in the other log nor on the topic.
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
fn judges_nothing_where_neither_topic_nor_log_has_the_command() {
    let mut world = World::new(COMMANDS);
    world.add_log(40..i64::MAX);
    world.logs.remove(0);
    delete(&mut world, Topic::Commands, 40);
    lengthen(&mut world.record(Topic::Notifications, |_| true).value);
    let reported = world.verify();
    // Keys of the commands that are gone are not known, and this log began without them.
    assert_eq!(
        reported.deviations.iter().filter(|d| d.what == What::Commands).collect::<Vec<_>>(),
        Vec::<&Deviation>::new()
    );
    let no_witness =
        reported.unchecked.iter().find(|unchecked| unchecked.reason == Reason::NoWitness).unwrap();
    assert_eq!((no_witness.first_offset, no_witness.next_offset, no_witness.count), (0, 40, None));
}

#[test]
fn trusts_a_duplicate_of_a_deleted_command_while_its_key_may_be_remembered() {
    let mut world = World::new(COMMANDS);
    // Between the first command with a key and its duplicate.
    let first =
        world.topic(Topic::Commands)[0].records.iter().find(|record| !record.headers.is_empty()).unwrap();
    let offset = first.coordinates.offset;
    delete(&mut world, Topic::Commands, offset + 1);
    let reported = world.verify();
    assert_eq!(reported.deviations, []);
    let forgotten =
        reported.unchecked.iter().find(|u| u.reason == Reason::KeyForgotten && u.partition == 0).unwrap();
    assert!(forgotten.count.unwrap() >= 2 && forgotten.first_offset == offset + 1, "{forgotten:?}");
    assert!(
        forgotten.next_offset < world.committed[0].unwrap() / 2,
        "beyond the window all is known: {forgotten:?}"
    );
    // The log is trusted there, and the output that it requires must exist all the same.
    world.sql(0, &format!("DELETE FROM duplicates WHERE partition = 0 AND offset = {}", offset + 1));
    let kinds = found(&world.verify());
    assert!(kinds.contains(&(Kind::Lost, What::Event)), "{kinds:?}");
}

#[test]
fn does_not_report_deleted_output_as_lost() {
    let mut world = World::new(COMMANDS);
    delete(&mut world, Topic::Notifications, 10);
    delete(&mut world, Topic::Rejections, 10);
    let reported = world.verify();
    assert_eq!(reported.deviations, []);
    assert!(reported.unchecked.iter().all(|unchecked| unchecked.reason == Reason::OutputDeleted));
    assert_eq!(reported.unchecked[0].topic, COMMANDS_TOPIC);
    let before = reported.unchecked;

    // Records missing after that are lost, and the rest is still compared.
    let last = |world: &mut World, topic| world.topic(topic)[1].records.last().unwrap().clone();
    let (one, other) = (last(&mut world, Topic::Notifications), last(&mut world, Topic::Rejections));
    world.take(Topic::Notifications, |record| *record == one);
    world.record(Topic::Rejections, |record| *record == other).key = None;
    let again = world.record(Topic::Notifications, |_| true).clone();
    world.topic(Topic::Notifications)[again.coordinates.partition as usize].push(again);
    let reported = world.verify();
    let mut kinds = found(&reported);
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            (Kind::Lost, What::Notification),
            (Kind::Doubled, What::Notification),
            (Kind::Altered, What::Rejection)
        ]
    );
    assert_eq!(reported.unchecked, before);
}

#[test]
fn does_not_report_output_in_an_open_transaction_as_lost() {
    let mut world = World::new(COMMANDS);
    let partition = &mut world.topic(Topic::Notifications)[1];
    let from = partition.end - 5;
    partition.held_back = Some(from);
    let reported = world.verify();
    assert_eq!(reported.deviations, []);
    let held_back: Vec<_> = reported.unchecked.iter().filter(|u| u.reason == Reason::HeldBack).collect();
    assert_eq!(held_back.len(), 1);
    assert_eq!(
        (held_back[0].topic.as_str(), held_back[0].partition, held_back[0].first_offset),
        ("n", 1, from)
    );
    let missing: u64 = reported
        .unchecked
        .iter()
        .filter(|u| u.reason == Reason::OutputHeldBack)
        .filter_map(|u| u.count)
        .sum();
    assert_eq!(missing, 5);
    // Records missing before it are lost.
    world.take(Topic::Notifications, |record| record.coordinates.offset == 2);
    assert_eq!(found(&world.verify()), [(Kind::Lost, What::Notification)]);
}

/// Two commands that are not JSON, whose rejections both omit the value: the first under another limit than the current one.
fn rejections_that_left_a_part_behind() -> World {
    let mut world = World::new(0);
    for size in [2_000, 3 << 20] {
        let mut record = World::sample(1);
        record.value = Some(vec![b'x'; size].into());
        record.headers.push(Header::new("h", "of the command"));
        world.topic(Topic::Commands)[0].push(record);
    }
    world.committed.clear();
    world.rejection_bytes = 2_000;
    world.process_again();
    world
}

#[test]
fn reports_a_rejection_cut_under_another_limit_as_unchecked() {
    let mut world = rejections_that_left_a_part_behind();
    let reported = world.verify();
    assert_eq!(reported.deviations, []);
    assert_eq!(reasons(&reported), [("r".to_owned(), 0, Reason::LimitUnknown)]);
    assert_eq!(reported.unchecked[0].count, Some(1));

    world.topic(Topic::Rejections)[0].records.remove(0);
    assert_eq!(found(&world.verify()), [(Kind::Lost, What::Rejection)]);
}

/// What is planted, and what it is called.
type Change<'a> = (&'a str, &'a dyn Fn(&mut Record));

/// For a command that is gone, less can be compared, and that part is.
#[test]
fn finds_each_change_of_a_rejection_that_omits_a_part() {
    let omitted = |record: &mut Record, parts: &str| {
        record.headers.last_mut().unwrap().value = Some(parts.to_owned().into());
    };
    let of_any: [Change<'_>; 9] = [
        ("another code", &|record| replace_in_problems(record, r#""code":""#, r#""code":"not_""#)),
        ("another pointer", &|record| replace_in_problems(record, r#""pointer":"""#, r#""pointer":"/a""#)),
        ("a value after all", &|record| record.value = Some("y".into())),
        ("other parts", &|record| omitted(record, "value,key")),
        ("more than it says", &|record| record.headers[6].value = Some("other".into())),
        ("headers that it says to lack", &|record| omitted(record, "value,headers")),
        ("a key that it says to lack", &|record| {
            omitted(record, "value,headers,key");
            record.headers.remove(0);
        }),
        ("nothing that says so", &|record| drop(record.headers.pop())),
        ("a header behind", &|record| record.headers.push(Header::new("x", ""))),
    ];
    let of_retained: [Change<'_>; 4] = [
        ("key", &|record| record.key = Some("x".into())),
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

#[test]
fn ignores_the_messages_of_a_rejection_that_omits_a_part() {
    for is_retained in [true, false] {
        let mut world = rejections_that_left_a_part_behind();
        if !is_retained {
            delete(&mut world, Topic::Commands, 2);
        }
        let before = world.verify();
        for record in &mut rejections(&mut world).records {
            replace_in_problems(record, r#""message":""#, r#""message":"in \"other\" words: "#);
        }
        let after = world.verify();
        assert_eq!((after.deviations, after.unchecked), (vec![], before.unchecked));
    }
}

fn replace_in_problems(record: &mut Record, from: &str, to: &str) {
    let problems = &mut record.headers[6];
    assert_eq!(*problems.name, *b"__connect.errors.exception.message");
    let text = String::from_utf8(problems.value.take().unwrap().into()).unwrap();
    assert!(text.contains(from), "{text}");
    problems.value = Some(text.replace(from, to).into());
}

fn rejections(world: &mut World) -> &mut Partition {
    world.topic(Topic::Rejections).iter_mut().find(|partition| !partition.records.is_empty()).unwrap()
}

/// A world that lacks the very last notification, and in which retention keeps deleting from that topic.
fn one_lost_and(later: (Topic, usize, i64)) -> World {
    let mut world = World::new(COMMANDS);
    let last =
        world.topic(Topic::Notifications).iter().flat_map(|p| &p.records).map(command_of).max().unwrap();
    world.take(Topic::Notifications, |record| command_of(record) == last);
    world.deleted_later = Some(later);
    world
}

/// Everything is read only once, so the check does not depend on a second read, by which it could be gone.
#[test]
fn judges_output_as_read_if_it_is_deleted_later() {
    for sizes in [Sizes::default(), world::TINY] {
        let reported = one_lost_and((Topic::Notifications, 1, 3)).try_verify(sizes).unwrap();
        assert_eq!(found(&reported), [(Kind::Lost, What::Notification)]);
        assert_eq!(reported.unchecked, []);
    }
}

#[test]
fn reports_altered_output_even_if_it_is_deleted_later() {
    for is_altered in [false, true] {
        let mut world = World::new(COMMANDS);
        delete(&mut world, Topic::Notifications, 2);
        let altered: &[_] = if is_altered { &[(Kind::Altered, What::Notification)] } else { &[] };
        if is_altered {
            world.topic(Topic::Notifications)[1].records[1].value = Some("{}".into());
        }
        let before = world.verify();
        assert_eq!(found(&before), altered);
        world.deleted_later = Some((Topic::Notifications, 1, 5));
        let reported = world.try_verify(Sizes::default()).unwrap();
        assert_eq!(found(&reported), altered);
        // Only records that were deleted before are unchecked.
        assert_eq!(reported.unchecked, before.unchecked);
        assert!(reported.unchecked.iter().all(|unchecked| unchecked.reason == Reason::OutputDeleted));
        assert!(!reported.unchecked.is_empty());
    }
}

#[test]
fn checks_commands_that_are_deleted_after_the_reading() {
    // Once for the log's anchors, once for each partition.
    let readings = 1 + world::PARTITIONS as usize;
    for below in [10, 1_000] {
        for sizes in [Sizes::default(), world::TINY] {
            let mut world = one_lost_and((Topic::Commands, readings, below));
            let reported = world.try_verify(sizes).unwrap();
            assert_eq!(world.deleted_later, None);
            assert_eq!(found(&reported), [(Kind::Lost, What::Notification)]);
            assert_eq!(reported.unchecked, []);
        }
    }
}

/// Undecided commands are reported although nothing is left to compare.
#[test]
fn reports_commands_deleted_undecided() {
    let mut world = World::new(COMMANDS);
    delete(&mut world, Topic::Commands, 60);
    world.committed[0] = Some(40);
    let reported = world.verify();
    let undecided: Vec<_> =
        reported.unchecked.iter().filter(|unchecked| unchecked.reason == Reason::Undecided).collect();
    assert_eq!(undecided.len(), 1, "{:?}", reported.unchecked);
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
fn reports_doubled_output_even_where_keys_are_forgotten() {
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
            // Commands that neither topic nor log has are not judged.
            all.retain(|record| command_of(record) >= 40);
            planted += all.len();
            all.into_iter().for_each(|again| world.topic(topic)[partition].push(again));
        }
    }
    let kinds = found(&world.verify());
    assert!(kinds.iter().all(|(kind, _)| *kind == Kind::Doubled), "{kinds:?}");
    assert_eq!(kinds.len(), planted);
}

/// A log that began after commands were deleted treats a repetition of one as a new command, and then treats further
/// repetitions as duplicates of that. Output that was published long before does not agree with it.
#[test]
fn a_log_that_did_not_know_a_key_may_have_decided_otherwise() {
    let mut world = World::new(COMMANDS);
    let keyed = |record: &&Record| record.headers.iter().any(|header| *header.name == *b"idempotency-key");
    let first = world.topic(Topic::Commands)[0].records.iter().find(keyed).unwrap().coordinates.offset;
    world.add_log(first + 1..i64::MAX);
    // A repetition that only the first log recognises.
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
            let reported = world.verify();
            assert_eq!(reported.deviations, [], "start {start}, logs {logs:?}");
            let is_said = reported.unchecked.iter().any(|unchecked| unchecked.reason == Reason::KeyForgotten);
            assert!(is_said || start == 60, "start {start}, logs {logs:?}");
        }
    }
}
