//! The checker, fed with logs and topics of which one thing is wrong.

mod faults;
mod retention;
mod world;

use super::{At, Deviation, Kind, Place, Reason, Sizes, Topic, What};
use testing::said_by;
use world::{Told, World};

/// Commands in most tests: enough for repeated keys in and out of their window.
const COMMANDS: i64 = 200;

fn is_clean(told: &Told) {
    assert_eq!((&told.deviations[..], &told.unchecked[..]), (&[][..], &[][..]));
}

#[test]
fn what_is_as_it_should_be_passes_and_is_counted() {
    let mut world = World::new(COMMANDS);
    let (said, told) = said_by(|| world.verify());
    is_clean(&told);
    assert_eq!(said, "");
    let summary = told.summary;
    assert_eq!(summary.commands, 200);
    assert!(summary.duplicates >= 20 && summary.rejections >= 60, "{summary:?}");
    assert_eq!(
        summary.notifications,
        world.topic(Topic::Notifications).iter().map(|p| p.records.len() as u64).sum::<u64>()
    );
    assert_eq!(
        summary.rejections,
        world.topic(Topic::Rejections).iter().map(|p| p.records.len() as u64).sum::<u64>()
    );
}

#[test]
fn nothing_at_all_passes() {
    let mut world = World::new(0);
    world.committed = vec![Some(0), None];
    let told = world.verify();
    is_clean(&told);
    assert_eq!(told.summary, super::Summary::default());
}

#[test]
fn what_lies_beyond_the_committed_offsets_is_not_judged() {
    let mut world = World::new(COMMANDS);
    let all = world.verify().summary;
    // The output of a command behind it is not out yet, that of another one is there twice.
    let published = 60;
    world.committed = vec![Some(published), Some(published)];
    let is_behind = |record: &contract::Record| {
        super::content::id_of_notification(record, contract::topic_bits(world::TOPIC))
            .is_ok_and(|id| id.offset >= published)
    };
    let again = world.take(Topic::Notifications, is_behind);
    let partition = again.coordinates.partition as usize;
    let other = world.record(Topic::Notifications, is_behind).clone();
    world.topic(Topic::Notifications)[partition].push(other);
    world.sql(
        0,
        &format!("UPDATE events SET json = replace(json, 'case', 'cave') WHERE offset >= {published}"),
    );
    let told = world.verify();
    is_clean(&told);
    assert!(told.summary.commands < all.commands && told.summary.commands > 100);
}

#[test]
fn another_idempotency_window_shows() {
    let mut world = World::new(0);
    world.window_ms = 5;
    let again = World::new(COMMANDS);
    world.topics = again.topics;
    world.topic(Topic::Notifications).iter_mut().for_each(|partition| *partition = Default::default());
    world.topic(Topic::Rejections).iter_mut().for_each(|partition| *partition = Default::default());
    world.committed.clear();
    world.process_again();
    let (said, told) = said_by(|| world.verify());
    let warning = "the group's offsets were committed under other limits, topics for replies or another idempotency window";
    assert!(said.contains(warning) && said.contains("partitions=[0, 1]"), "{said}");
    let kinds: std::collections::BTreeSet<_> =
        told.deviations.iter().map(|deviation| (deviation.kind, deviation.what)).collect();
    // Of two commands with one key both became events, and the one with other content as well.
    assert!(kinds.contains(&(Kind::Altered, What::Event)), "{kinds:?}");
    assert!(kinds.contains(&(Kind::Lost, What::Rejection)), "{kinds:?}");
}

#[test]
fn several_logs_are_each_held_to_what_they_say_that_they_know() {
    let mut world = World::new(COMMANDS);
    world.add_log(0..50);
    is_clean(&world.verify());
    // The first one lags now, and the second one has the beginning only.
    world.logs.swap(0, 1);
    is_clean(&world.verify());
    world.sql(0, "DELETE FROM rejections WHERE (partition, offset) = (1, (SELECT min(offset) FROM rejections WHERE partition = 1))");
    let told = world.verify();
    assert_eq!(told.deviations.len(), 1);
    assert_eq!((told.deviations[0].kind, told.deviations[0].what), (Kind::Lost, What::Rejection));
    assert_eq!(told.deviations[0].place, Place::Log { path: world.logs[0].clone(), position: None });
}

#[test]
fn commands_that_no_log_knows_of_are_told_in_stretches() {
    let mut world = World::new(COMMANDS);
    world.add_log(0..50);
    world.logs.remove(0);
    let told = world.verify();
    let found: Vec<_> = told.deviations.iter().map(|d| (d.kind, d.what, d.place.clone())).collect();
    assert_eq!(found, vec![(Kind::Lost, What::Commands, Place::Logs); 2]);
    let end = world.committed[0].unwrap() - 1;
    let details = &told.deviations[0].details;
    assert!(details.contains(&format!("partition 0, offsets 50 to {end}, which hold")), "{details}");
}

#[test]
fn what_cannot_be_checked_at_all_is_refused_in_a_sentence() {
    let refused = |change: &dyn Fn(&mut World)| {
        let mut world = World::new(30);
        change(&mut world);
        world.try_verify(Sizes::default()).unwrap_err().to_string()
    };
    let said = refused(&|world| world.committed = vec![None, None]);
    assert!(said.contains("the group 'g' has no committed offsets on 'activity.commands'"), "{said}");
    let said = refused(&|world| world.committed[1] = Some(10_000));
    assert!(
        said.contains("partition 1: the group 'g' has committed offset 10000, beyond the topic's end"),
        "{said}"
    );
    let said = refused(&|world| {
        world.committed[0] = Some(3);
        world.topic(Topic::Commands)[0].end = 3;
    });
    assert!(
        said.contains("activity.db: partition 0: this is not the topic that the log was made from"),
        "{said}"
    );
    let said = refused(&|world| {
        let last = world.topic(Topic::Commands)[1].records.last_mut().unwrap();
        last.coordinates.timestamp += 1;
    });
    assert!(
        said.contains("partition 1: this is not the topic that the log was made from: the log's last"),
        "{said}"
    );
    let said = refused(&|world| world.topic(Topic::Commands)[0].held_back = Some(4));
    assert!(said.contains("partition 0 of 'activity.commands' can't be read beyond offset"), "{said}");
}

#[test]
fn a_partition_without_committed_offset_is_said() {
    let mut world = World::new(COMMANDS);
    world.committed[1] = None;
    let told = world.verify();
    assert_eq!(told.deviations, []);
    let unchecked: Vec<_> =
        told.unchecked.iter().map(|u| (u.topic.as_str(), u.partition, u.reason)).collect();
    assert_eq!(unchecked, [(world::TOPIC, 1, Reason::NoOffset)]);
}

/// Whoever committed it, it does not say what must be out; what a log has seen published does.
#[test]
fn an_offset_that_somebody_else_committed_is_said_and_nothing_is_lost() {
    for (moved, unchecked) in [(80, 30..80), (10, 10..30), (30, 30..30)] {
        let mut world = World::new(COMMANDS);
        assert!(world.committed[1].unwrap() > 80);
        world.sql(0, "UPDATE cursors SET published_seen = 30 WHERE partition = 1");
        world.committed[1] = Some(moved);
        world.foreign.push(1);
        // By what the log knows this one may not be out yet.
        world.take(Topic::Notifications, |record| {
            super::content::id_of_notification(record, contract::topic_bits(world::TOPIC))
                .is_ok_and(|id| id.partition == 1 && id.offset >= 30)
        });
        let told = world.verify();
        assert_eq!(told.deviations, []);
        let found: Vec<_> =
            told.unchecked.iter().map(|u| (u.partition, u.first_offset..u.next_offset, u.reason)).collect();
        if unchecked.is_empty() {
            assert_eq!(found, []);
        } else {
            assert_eq!(found, [(1, unchecked, Reason::ForeignOffset)]);
        }
    }
}
