//! Every row of the table of the two cursors, and every stop with its ways out.

use contract::Coordinates;
use kafka::mark::{Mark, RulesHash};

use super::*;

const END: i64 = 100;

fn mark() -> Mark {
    Mark { instance: uuid::Uuid::nil(), clock: 4, rules: RulesHash(7) }
}

/// The topic has offsets 0 to [`END`], including the log's last record. The offset was committed by this program.
fn facts(logged: Option<i64>, committed: Option<i64>) -> Facts {
    let cursor = logged.map(|logged| Cursor {
        partition: 3,
        logged,
        clock: 5,
        published_seen: None,
        clean: false,
        anchor: (logged > 0).then_some(Anchor { offset: logged - 1, timestamp: 5, checksum: 0xc0ffee }),
    });
    let at_anchor = logged.map(|_| AtAnchor::Record { timestamp: 5, checksum: 0xc0ffee });
    let committed = committed.map(|offset| Committed { offset, mark: Some(mark()) });
    Facts { partition: 3, cursor, committed, bounds: Bounds { start: 0, end: END }, at_anchor }
}

/// The same, but somebody else committed the offset.
fn foreign(logged: Option<i64>, offset: i64) -> Facts {
    Facts { committed: Some(Committed { offset, mark: None }), ..facts(logged, None) }
}

fn seen(facts: Facts, seen: i64, clean: bool) -> Facts {
    let cursor = facts.cursor.map(|cursor| Cursor { published_seen: Some(seen), clean, ..cursor });
    Facts { cursor, ..facts }
}

fn starting_at(facts: Facts, start: i64) -> Facts {
    Facts { bounds: Bounds { start, end: END }, ..facts }
}

/// `offset`, `logged`, `published` of a plan that needed nothing special.
#[track_caller]
fn cursors(facts: &Facts) -> (i64, i64, i64) {
    let start = plan(facts, Accept::default()).unwrap();
    assert_eq!((&start.gap, &start.accepted[..]), (&None, &[][..]));
    (start.offset, start.logged, start.published)
}

#[track_caller]
fn refusal(facts: &Facts) -> String {
    plan(facts, Accept::default()).unwrap_err().to_string()
}

#[test]
fn normal_operation_continues_at_both_cursors() {
    assert_eq!(cursors(&facts(Some(40), Some(40))), (40, 40, 40));
    assert_eq!(cursors(&facts(Some(END), Some(END))), (END, END, END));
}

#[test]
fn after_a_crash_between_the_commits_logged_commands_are_published() {
    assert_eq!(cursors(&facts(Some(40), Some(30))), (30, 40, 30));
}

#[test]
fn a_log_that_lost_its_tail_heals_from_the_topic() {
    assert_eq!(cursors(&facts(Some(30), Some(40))), (30, 30, 40));
    assert_eq!(cursors(&seen(facts(Some(30), Some(40)), 25, true)), (30, 30, 40));
}

#[test]
fn a_partition_from_another_instance_is_read_from_its_beginning() {
    assert_eq!(cursors(&facts(None, Some(40))), (0, 0, 40));
}

#[test]
fn a_new_instance_of_a_new_group_begins_at_the_beginning() {
    assert_eq!(cursors(&facts(None, None)), (0, 0, 0));
    let start = plan(&starting_at(facts(None, None), 20), Accept::default()).unwrap();
    assert_eq!((start.offset, start.logged, start.published), (20, 20, 20));
    let gap = start.gap.unwrap();
    assert_eq!((gap.first_offset, gap.next_offset), (0, 20));
}

#[test]
fn history_that_is_gone_but_was_published_is_a_gap() {
    let start = plan(&starting_at(facts(Some(10), Some(40)), 20), Accept::default()).unwrap();
    assert_eq!((start.offset, start.logged, start.published), (20, 20, 40));
    let gap = start.gap.unwrap();
    assert_eq!((gap.first_offset, gap.next_offset), (10, 20));
    insta::assert_snapshot!(gap.reason, @"deleted from the topic before this log had read them");
    assert_eq!(cursors(&starting_at(facts(Some(20), Some(40)), 20)), (20, 20, 40));
}

#[test]
fn after_a_clean_stop_lost_offsets_are_known_all_the_same() {
    for committed in [None, Some(0), Some(39)] {
        assert_eq!(cursors(&seen(facts(Some(40), committed), 40, true)), (40, 40, 40));
    }
    assert_eq!(cursors(&seen(facts(Some(40), Some(60)), 40, true)), (40, 40, 60));
}

#[test]
fn lost_offsets_after_a_kill_stop() {
    let lower = seen(facts(Some(40), Some(20)), 35, false);
    insta::assert_snapshot!(refusal(&lower), @"partition 3: the group's committed offset is 20, but this log has seen 35 published and was not stopped cleanly, so what is published is unknown (the log goes up to 40, the topic holds 0 to 100). Start once with '--accept republish' to publish from 35 (some may be published twice), '--accept skip-unpublished' to continue at 40 (some may never be published), or '--accept group-offset' to continue at 20; the log records that");
    let absent = seen(facts(Some(40), None), 35, false);
    insta::assert_snapshot!(refusal(&absent), @"partition 3: the group's committed offset is absent, but this log has seen 35 published and was not stopped cleanly, so what is published is unknown (the log goes up to 40, the topic holds 0 to 100). Start once with '--accept republish' to publish from 35 (some may be published twice), '--accept skip-unpublished' to continue at 40 (some may never be published), or set the group's offset and start once with '--accept group-offset' to continue there; the log records that");
    assert!(plan(&absent, Accept { lost_commands: true, ..Accept::default() }).is_err());

    let start = plan(&absent, Accept { republish: true, ..Accept::default() }).unwrap();
    assert_eq!((start.offset, start.logged, start.published), (35, 40, 35));
    assert_eq!(start.accepted, [(Loss::Republish, refusal(&absent))]);
    let start = plan(&absent, Accept { skip_unpublished: true, ..Accept::default() }).unwrap();
    assert_eq!((start.offset, start.logged, start.published), (40, 40, 40));
    assert_eq!(start.accepted, [(Loss::SkipUnpublished, refusal(&absent))]);
}

#[test]
fn seen_output_is_not_published_again_after_the_log_lost_its_tail() {
    let facts = seen(facts(Some(7), Some(10)), 12, false);
    assert!(refusal(&facts).contains("'--accept skip-unpublished' to continue at 12"), "{}", refusal(&facts));
    let start = plan(&facts, Accept { skip_unpublished: true, ..Accept::default() }).unwrap();
    assert_eq!((start.offset, start.logged, start.published), (7, 7, 12));
}

#[test]
fn published_seen_is_trusted_while_the_group_agrees() {
    assert_eq!(cursors(&seen(facts(Some(40), Some(35)), 35, false)), (35, 40, 35));
}

#[test]
fn commands_that_nobody_decided_and_are_gone_stop() {
    let facts = starting_at(facts(Some(10), Some(15)), 20);
    insta::assert_snapshot!(refusal(&facts), @"partition 3: commands were deleted before they were decided: the next one to publish is 15, and the topic holds 20 to 100. Restore the topic, or start once with '--accept lost-commands' to continue at 20; the log records that");
    let start = plan(&facts, Accept { lost_commands: true, ..Accept::default() }).unwrap();
    assert_eq!((start.offset, start.logged, start.published), (20, 20, 20));
    assert_eq!(start.accepted, [(Loss::LostCommands, refusal(&facts))]);
    let gap = start.gap.unwrap();
    assert_eq!((gap.first_offset, gap.next_offset), (10, 20));
    insta::assert_snapshot!(gap.reason, @"deleted before they were decided");
}

#[test]
fn logged_but_unpublished_commands_that_are_gone_stop() {
    let facts = starting_at(facts(Some(40), Some(15)), 20);
    assert!(refusal(&facts).contains("deleted before they were decided"));
    let start = plan(&facts, Accept { lost_commands: true, ..Accept::default() }).unwrap();
    assert_eq!((start.offset, start.logged, start.published, start.gap), (20, 40, 20, None));
}

#[test]
fn every_accepted_loss_is_recorded() {
    let facts = starting_at(seen(facts(Some(40), None), 15, false), 20);
    let accept = Accept { lost_commands: true, republish: true, ..Accept::default() };
    let start = plan(&facts, accept).unwrap();
    let losses: Vec<_> = start.accepted.iter().map(|(loss, _)| *loss).collect();
    assert_eq!(losses, [Loss::Republish, Loss::LostCommands]);
    assert_eq!((start.offset, start.logged, start.published), (20, 40, 20));
}

#[test]
fn another_topic_stops_whatever_is_accepted() {
    let mut facts = facts(Some(40), Some(40));
    facts.at_anchor = Some(AtAnchor::Record { timestamp: 6, checksum: 0xbeef });
    insta::assert_snapshot!(refusal(&facts), @"partition 3: this is not the topic that the log was made from: the log's last record is at offset 39 with timestamp 5 and checksum 00c0ffee, and the topic has a record with timestamp 6 and checksum 0000beef there. The topic was created again, belongs to another cluster, or lost records. Name the right cluster and topic, or keep this log aside and start with a new file and a new group");
    facts.at_anchor = Some(AtAnchor::Nothing);
    insta::assert_snapshot!(refusal(&facts), @"partition 3: this is not the topic that the log was made from: the log's last record is at offset 39 with timestamp 5 and checksum 00c0ffee, and the topic has no record there. The topic was created again, belongs to another cluster, or lost records. Name the right cluster and topic, or keep this log aside and start with a new file and a new group");
    let all = Accept { lost_commands: true, republish: true, skip_unpublished: true, group_offset: true };
    assert!(matches!(plan(&facts, all), Err(Refusal::OtherTopic { .. })));
}

#[test]
fn a_deleted_anchor_is_not_fetched() {
    let mut facts = starting_at(facts(Some(40), Some(40)), 40);
    facts.at_anchor = None;
    assert_eq!(retained_anchor(facts.cursor.as_ref(), facts.bounds), None);
    assert_eq!(cursors(&facts), (40, 40, 40));
}

#[test]
fn a_cursor_beyond_the_end_stops_whatever_is_accepted() {
    let all = Accept { lost_commands: true, republish: true, skip_unpublished: true, group_offset: true };
    let logged = facts(Some(END + 1), Some(END));
    insta::assert_snapshot!(refusal(&Facts { at_anchor: logged.at_anchor, ..logged.clone() }), @"partition 3: the logged cursor is at 101, beyond the topic's end (it holds 0 to 100). The topic was created again, belongs to another cluster, or lost records. Name the right cluster and topic, or keep this log aside and start with a new file and a new group");
    assert!(plan(&logged, all).is_err());
    let published = facts(Some(END), Some(END + 1));
    insta::assert_snapshot!(refusal(&published), @"partition 3: the published cursor is at 101, beyond the topic's end (it holds 0 to 100). The topic was created again, belongs to another cluster, or lost records. Name the right cluster and topic, or keep this log aside and start with a new file and a new group");
    assert!(plan(&published, all).is_err());
    assert!(plan(&facts(None, Some(END + 1)), all).is_err());
    let foreign = seen(foreign(Some(END), END + 1), 40, true);
    assert!(refusal(&foreign).contains("the published cursor is at 101"), "{}", refusal(&foreign));
    assert!(plan(&foreign, all).is_err());
}

#[test]
fn a_record_gives_what_an_anchor_is_compared_with() {
    let record = Record {
        coordinates: Coordinates { partition: 3, offset: 39, timestamp: 5 },
        key: None,
        value: None,
        headers: Vec::new(),
    };
    let wanted = AtAnchor::Record { timestamp: 5, checksum: record.checksum() };
    assert_eq!(AtAnchor::from(Some(&record)), wanted);
    assert_eq!(AtAnchor::from(None), AtAnchor::Nothing);
}

/// The flag that was needed, and where it continues.
fn settled(facts: &Facts, accept: Accept) -> (i64, i64, i64) {
    let start = plan(facts, accept).unwrap();
    assert_eq!(start.accepted.len(), 1);
    assert_eq!(start.accepted[0].1, refusal(facts));
    (start.offset, start.logged, start.published)
}

const REPUBLISH: Accept =
    Accept { lost_commands: false, republish: true, skip_unpublished: false, group_offset: false };
const SKIP: Accept = Accept { republish: false, skip_unpublished: true, ..REPUBLISH };
const GROUP: Accept = Accept { republish: false, group_offset: true, ..REPUBLISH };

#[test]
fn an_offset_that_somebody_moved_forward_stops() {
    let forward = seen(foreign(Some(40), 60), 35, false);
    insta::assert_snapshot!(refusal(&forward), @"partition 3: the group's committed offset 60 was not committed by this program with a mark: another consumer is in the group, somebody set the offset, or version 0.1.0, which left no marks, committed it (then '--accept group-offset' is right). This log has seen 35 published and goes up to 40; the output of offsets 35 to 59 may never have been published (the topic holds 0 to 100). Remove other consumers from the group, then start once with '--accept republish' to publish from 35 (some may be published twice), '--accept skip-unpublished' to continue at 40 (some may never be published), or '--accept group-offset' to continue at 60; the log records that");
    assert_eq!(settled(&forward, REPUBLISH), (35, 40, 35));
    assert_eq!(settled(&forward, SKIP), (40, 40, 40));
    // The log has everything in between all the same.
    assert_eq!(settled(&forward, GROUP), (40, 40, 60));
    // A clean stop does not change that.
    assert!(refusal(&seen(foreign(Some(40), 60), 40, true)).contains("offsets 40 to 59 may never"));
    assert!(plan(&forward, Accept { lost_commands: true, ..Accept::default() }).is_err());
}

#[test]
fn an_offset_that_somebody_moved_back_stops() {
    for clean in [true, false] {
        let back = seen(foreign(Some(40), 20), 40, clean);
        insta::allow_duplicates! {
            insta::assert_snapshot!(refusal(&back), @"partition 3: the group's committed offset 20 was not committed by this program with a mark: another consumer is in the group, somebody set the offset, or version 0.1.0, which left no marks, committed it (then '--accept group-offset' is right). This log has seen 40 published and goes up to 40; the output of offsets 20 to 39 is published already (the topic holds 0 to 100). Remove other consumers from the group, then start once with '--accept republish' to publish from 40 (some may be published twice), '--accept skip-unpublished' to continue at 40 (some may never be published), or '--accept group-offset' to continue at 20; the log records that");
        }
        assert_eq!(settled(&back, REPUBLISH), (40, 40, 40));
        assert_eq!(settled(&back, SKIP), (40, 40, 40));
        assert_eq!(settled(&back, GROUP), (20, 40, 20));
    }
}

#[test]
fn an_offset_that_was_set_before_the_first_start_stops() {
    let set = foreign(None, 60);
    insta::assert_snapshot!(refusal(&set), @"partition 3: the group's committed offset 60 was not committed by this program with a mark: another consumer is in the group, somebody set the offset, or version 0.1.0, which left no marks, committed it (then '--accept group-offset' is right). This log has never seen the partition: the output of offsets 0 to 59 may never have been published, and output from 60 on may be published already (the topic holds 0 to 100). Remove other consumers from the group, then start once with '--accept republish' to publish from 0 (some may be published twice), or '--accept group-offset' to continue at 60; the log records that");
    assert_eq!(settled(&set, REPUBLISH), (0, 0, 0));
    assert_eq!(settled(&set, GROUP), (0, 0, 60));
    let earliest = starting_at(foreign(None, 20), 20);
    insta::assert_snapshot!(refusal(&earliest), @"partition 3: the group's committed offset 20 was not committed by this program with a mark: another consumer is in the group, somebody set the offset, or version 0.1.0, which left no marks, committed it (then '--accept group-offset' is right). This log has never seen the partition: output from 20 on may be published already (the topic holds 20 to 100). Remove other consumers from the group, then start once with '--accept republish' to publish from 20 (some may be published twice), or '--accept group-offset' to continue at 20; the log records that");
}

#[test]
fn an_offset_without_a_mark_counts_only_if_a_clean_stop_left_it() {
    assert_eq!(cursors(&seen(foreign(Some(40), 40), 40, true)), (40, 40, 40));
    // A log that was killed may have published more than it has seen.
    let equal = seen(foreign(Some(40), 35), 35, false);
    insta::assert_snapshot!(refusal(&equal), @"partition 3: the group's committed offset 35 was not committed by this program with a mark: another consumer is in the group, somebody set the offset, or version 0.1.0, which left no marks, committed it (then '--accept group-offset' is right). This log has seen 35 published and goes up to 40 and was not stopped cleanly; output from 35 on may be published already (the topic holds 0 to 100). Remove other consumers from the group, then start once with '--accept republish' to publish from 35 (some may be published twice), '--accept skip-unpublished' to continue at 40 (some may never be published), or '--accept group-offset' to continue at 35; the log records that");
    assert_eq!(settled(&equal, GROUP), (35, 40, 35));
}

/// Version 0.1.0 left no marks. Of several processes that it stopped cleanly, the first to start gets the others'
/// partitions, and cannot know of their clean stops.
#[test]
fn after_an_upgrade_of_several_processes_the_group_offset_is_right() {
    let own = seen(foreign(Some(40), 40), 40, true);
    assert_eq!(cursors(&own), (40, 40, 40));
    let never_held = foreign(None, 60);
    let held_before = seen(foreign(Some(20), 60), 20, false);
    for others in [never_held, held_before] {
        assert!(refusal(&others).contains("version 0.1.0, which left no marks"), "{}", refusal(&others));
        let logged = others.cursor.map_or(0, |cursor| cursor.logged);
        // What is missing in this log is appended, and nothing lost or published twice.
        assert_eq!(settled(&others, GROUP), (logged, logged, 60));
        assert_eq!(settled(&others, REPUBLISH), (logged, logged, logged));
    }
}

#[test]
fn a_lower_marked_group_offset_can_be_accepted_and_an_absent_one_cannot() {
    assert_eq!(settled(&seen(facts(Some(40), Some(20)), 35, false), GROUP), (20, 40, 20));
    assert!(plan(&seen(facts(Some(40), None), 35, false), GROUP).is_err());
}

#[test]
fn a_group_offset_below_the_topics_start_needs_lost_commands_accepted_too() {
    let deleted = starting_at(seen(foreign(Some(40), 20), 40, true), 30);
    assert!(plan(&deleted, GROUP).unwrap_err().to_string().contains("commands were deleted"));
    let start = plan(&deleted, Accept { lost_commands: true, ..GROUP }).unwrap();
    assert_eq!((start.offset, start.logged, start.published), (30, 40, 30));
    assert_eq!(
        start.accepted.iter().map(|(loss, _)| *loss).collect::<Vec<_>>(),
        [Loss::GroupOffset, Loss::LostCommands]
    );
}

#[test]
fn the_clock_comes_from_the_mark_when_resuming_at_its_offset() {
    let clock = |facts: &Facts, accept| plan(facts, accept).unwrap().clock;
    assert_eq!(clock(&facts(Some(40), Some(30)), Accept::default()), 4);
    // The log's own.
    assert_eq!(clock(&seen(facts(Some(40), Some(20)), 35, false), REPUBLISH), 5);
    assert_eq!(clock(&seen(facts(Some(40), None), 40, true), Accept::default()), 5);
    assert_eq!(clock(&facts(None, None), Accept::default()), 0);
}

/// `logged` and the gap before it.
#[track_caller]
fn followed(facts: &Facts) -> (i64, Option<(i64, i64)>) {
    let start = plan_following(facts, Accept::default()).unwrap();
    assert_eq!((start.offset, start.published), (start.logged, start.logged));
    assert!(start.accepted.is_empty());
    (start.logged, start.gap.map(|gap| (gap.first_offset, gap.next_offset)))
}

#[test]
fn following_begins_where_the_log_ends_whoever_has_published_what() {
    assert_eq!(followed(&facts(None, None)), (0, None));
    assert_eq!(followed(&facts(Some(40), None)), (40, None));
    assert_eq!(followed(&facts(Some(40), Some(10))), (40, None));
    assert_eq!(followed(&facts(Some(40), Some(90))), (40, None));
    assert_eq!(followed(&foreign(Some(40), 90)), (40, None));
}

#[test]
fn a_gap_is_followed_over_if_the_group_has_published_what_is_gone() {
    assert_eq!(followed(&starting_at(facts(None, Some(60)), 60)), (60, Some((0, 60))));
    assert_eq!(followed(&starting_at(facts(Some(40), Some(70)), 60)), (60, Some((40, 60))));
    for undecided in [
        starting_at(facts(Some(40), Some(59)), 60),
        starting_at(facts(None, None), 60),
        starting_at(foreign(Some(40), 90), 60),
    ] {
        let refusal = plan_following(&undecided, Accept::default()).unwrap_err();
        assert!(matches!(refusal, Refusal::Undecided { start: 60, .. }), "{refusal}");
    }
}

#[test]
fn nothing_is_followed_of_another_topic() {
    let refusal = |facts: &Facts| plan_following(facts, Accept::default()).unwrap_err();
    let other = Facts { at_anchor: Some(AtAnchor::Nothing), ..facts(Some(40), None) };
    assert!(matches!(refusal(&other), Refusal::OtherTopic { .. }));
    assert!(matches!(refusal(&facts(Some(END + 1), None)), Refusal::BeyondEnd { cursor: "logged", .. }));
}

#[test]
fn a_log_that_has_only_followed_begins_to_publish_at_the_beginning() {
    // Nobody in the group has published anything of the partition, as far as this log has seen.
    assert_eq!(cursors(&facts(Some(40), None)), (0, 40, 0));
    assert_eq!(
        plan(&facts(Some(40), None), Accept::default()).unwrap().clock,
        0,
        "not the log's, which is ahead"
    );
    // Otherwise what is gone would count as published.
    let refused = plan(&starting_at(facts(Some(40), None), 20), Accept::default()).unwrap_err();
    assert!(matches!(refused, Refusal::CommandsLost { published: 0, start: 20, .. }), "{refused}");
    let refused = plan(&seen(facts(Some(40), None), 30, false), Accept::default()).unwrap_err();
    assert!(matches!(refused, Refusal::PublishedUnknown(Doubt { seen: 30, .. })), "{refused}");
}
