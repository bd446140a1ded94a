//! The checker, with logs and topics in which one thing is wrong.

mod faults;
mod retention;
mod world;

use super::{At, Deviation, Kind, Place, Reason, Sizes, Topic, What};
use testing::said_by;
use world::{Reported, World, lengthen};

/// Commands in most tests: enough for repeated keys in and out of their window.
const COMMANDS: i64 = 200;

fn is_clean(reported: &Reported) {
    assert_eq!((&reported.deviations[..], &reported.unchecked[..]), (&[][..], &[][..]));
}

#[test]
fn passes_and_counts_a_correct_world() {
    let mut world = World::new(COMMANDS);
    let (said, reported) = said_by(|| world.verify());
    is_clean(&reported);
    assert_eq!(said, "");
    let summary = reported.summary;
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
fn passes_empty_topics() {
    let mut world = World::new(0);
    world.committed = vec![Some(0), None];
    let reported = world.verify();
    is_clean(&reported);
    assert_eq!(reported.summary, super::Summary::default());
}

#[test]
fn judges_nothing_after_the_committed_offsets() {
    let mut world = World::new(COMMANDS);
    let all = world.verify().summary;
    // The output of a command after it is not published yet; that of another one exists twice.
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
    let reported = world.verify();
    is_clean(&reported);
    assert!(reported.summary.commands < all.commands && reported.summary.commands > 100);
}

#[test]
fn warns_of_another_idempotency_window_and_finds_its_effects() {
    let mut world = World::new(0);
    world.window_ms = 5;
    let again = World::new(COMMANDS);
    world.topics = again.topics;
    world.topic(Topic::Notifications).iter_mut().for_each(|partition| *partition = Default::default());
    world.topic(Topic::Rejections).iter_mut().for_each(|partition| *partition = Default::default());
    world.committed.clear();
    world.process_again();
    let (said, reported) = said_by(|| world.verify());
    let warning = "the group's offsets were committed under other limits, topics for replies or another idempotency window";
    assert!(said.contains(warning) && said.contains("partitions=[0, 1]"), "{said}");
    let kinds: std::collections::BTreeSet<_> =
        reported.deviations.iter().map(|deviation| (deviation.kind, deviation.what)).collect();
    // Of two commands with one key both became events, and the one with other content as well.
    assert!(kinds.contains(&(Kind::Altered, What::Event)), "{kinds:?}");
    assert!(kinds.contains(&(Kind::Lost, What::Rejection)), "{kinds:?}");
}

#[test]
fn checks_each_of_several_logs_within_its_coverage() {
    let mut world = World::new(COMMANDS);
    world.add_log(0..50);
    is_clean(&world.verify());
    // The first one lags now, and the second one has the beginning only.
    world.logs.swap(0, 1);
    is_clean(&world.verify());
    world.sql(0, "DELETE FROM rejections WHERE (partition, offset) = (1, (SELECT min(offset) FROM rejections WHERE partition = 1))");
    let reported = world.verify();
    assert_eq!(reported.deviations.len(), 1);
    assert_eq!((reported.deviations[0].kind, reported.deviations[0].what), (Kind::Lost, What::Rejection));
    assert_eq!(reported.deviations[0].place, Place::Log { path: world.logs[0].clone(), position: None });
}

#[test]
fn reports_commands_without_a_log_in_stretches() {
    let mut world = World::new(COMMANDS);
    world.add_log(0..50);
    world.logs.remove(0);
    let reported = world.verify();
    let found: Vec<_> = reported.deviations.iter().map(|d| (d.kind, d.what, d.place.clone())).collect();
    assert_eq!(found, vec![(Kind::Lost, What::Commands, Place::Logs); 2]);
    let end = world.committed[0].unwrap() - 1;
    let details = &reported.deviations[0].details;
    assert!(details.contains(&format!("partition 0, offsets 50 to {end}, which hold")), "{details}");
}

#[test]
fn refuses_what_it_cannot_check_with_a_reason() {
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
fn reports_a_partition_without_a_committed_offset() {
    let mut world = World::new(COMMANDS);
    world.committed[1] = None;
    let reported = world.verify();
    assert_eq!(reported.deviations, []);
    let unchecked: Vec<_> =
        reported.unchecked.iter().map(|u| (u.topic.as_str(), u.partition, u.reason)).collect();
    assert_eq!(unchecked, [(world::TOPIC, 1, Reason::NoOffset)]);
}

/// An offset that somebody else committed does not show what must be published; what a log has seen published does.
#[test]
fn reports_an_offset_committed_by_another_and_nothing_as_lost() {
    for (moved, unchecked) in [(80, 30..80), (10, 10..30), (30, 30..30)] {
        let mut world = World::new(COMMANDS);
        assert!(world.committed[1].unwrap() > 80);
        world.sql(0, "UPDATE cursors SET published_seen = 30 WHERE partition = 1");
        world.committed[1] = Some(moved);
        world.foreign.push(1);
        // As far as the log knows, this one may not be published yet.
        world.take(Topic::Notifications, |record| {
            super::content::id_of_notification(record, contract::topic_bits(world::TOPIC))
                .is_ok_and(|id| id.partition == 1 && id.offset >= 30)
        });
        let reported = world.verify();
        assert_eq!(reported.deviations, []);
        let found: Vec<_> = reported
            .unchecked
            .iter()
            .map(|u| (u.partition, u.first_offset..u.next_offset, u.reason))
            .collect();
        if unchecked.is_empty() {
            assert_eq!(found, []);
        } else {
            assert_eq!(found, [(1, unchecked, Reason::ForeignOffset)]);
        }
    }
}
