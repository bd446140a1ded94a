//! Every row of the table of the two cursors, and every stop with its ways out.

use super::*;
use crate::activity::Coordinates;

const END: i64 = 100;

/// The topic holds 0 to [`END`], and still the record that the log ends with.
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
    Facts { partition: 3, cursor, committed, bounds: Bounds { start: 0, end: END }, at_anchor }
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
fn normal_running_goes_on_where_both_cursors_are() {
    assert_eq!(cursors(&facts(Some(40), Some(40))), (40, 40, 40));
    assert_eq!(cursors(&facts(Some(END), Some(END))), (END, END, END));
}

#[test]
fn after_a_crash_between_the_commits_what_is_logged_is_published() {
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
    insta::assert_snapshot!(refusal(&lower), @"partition 3: the group's committed offset is 20, but this log has seen 35 published and was not stopped cleanly, so what is published is unknown (the log goes up to 40, the topic holds 0 to 100). Restore the group's offset, or start once with '--accept republish' to publish from 35 (some may be told twice) or '--accept skip-unpublished' to go on at 40 (some may never be told); the log records that");
    let absent = seen(facts(Some(40), None), 35, false);
    insta::assert_snapshot!(refusal(&absent), @"partition 3: the group's committed offset is absent, but this log has seen 35 published and was not stopped cleanly, so what is published is unknown (the log goes up to 40, the topic holds 0 to 100). Restore the group's offset, or start once with '--accept republish' to publish from 35 (some may be told twice) or '--accept skip-unpublished' to go on at 40 (some may never be told); the log records that");
    assert!(plan(&absent, Accept { lost_commands: true, ..Accept::default() }).is_err());

    let start = plan(&absent, Accept { republish: true, ..Accept::default() }).unwrap();
    assert_eq!((start.offset, start.logged, start.published), (35, 40, 35));
    assert_eq!(start.accepted, [("republish", refusal(&absent))]);
    let start = plan(&absent, Accept { skip_unpublished: true, ..Accept::default() }).unwrap();
    assert_eq!((start.offset, start.logged, start.published), (40, 40, 40));
    assert_eq!(start.accepted, [("skip-unpublished", refusal(&absent))]);
}

#[test]
fn what_was_seen_published_is_not_told_again_where_the_log_lost_its_tail() {
    let facts = seen(facts(Some(7), Some(10)), 12, false);
    assert!(refusal(&facts).contains("'--accept skip-unpublished' to go on at 12"), "{}", refusal(&facts));
    let start = plan(&facts, Accept { skip_unpublished: true, ..Accept::default() }).unwrap();
    assert_eq!((start.offset, start.logged, start.published), (7, 7, 12));
}

#[test]
fn what_the_log_has_seen_published_holds_as_long_as_the_group_agrees() {
    assert_eq!(cursors(&seen(facts(Some(40), Some(35)), 35, false)), (35, 40, 35));
}

#[test]
fn commands_that_nobody_decided_and_are_gone_stop() {
    let facts = starting_at(facts(Some(10), Some(15)), 20);
    insta::assert_snapshot!(refusal(&facts), @"partition 3: commands were deleted before they were decided: the next one to publish is 15, and the topic holds 20 to 100. Restore the topic, or start once with '--accept lost-commands' to go on at 20; the log records that");
    let start = plan(&facts, Accept { lost_commands: true, ..Accept::default() }).unwrap();
    assert_eq!((start.offset, start.logged, start.published), (20, 20, 20));
    assert_eq!(start.accepted, [("lost-commands", refusal(&facts))]);
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
fn every_flag_that_was_needed_is_recorded() {
    let facts = starting_at(seen(facts(Some(40), None), 15, false), 20);
    let accept = Accept { lost_commands: true, republish: true, skip_unpublished: false };
    let start = plan(&facts, accept).unwrap();
    let flags: Vec<_> = start.accepted.iter().map(|(flag, _)| *flag).collect();
    assert_eq!(flags, ["republish", "lost-commands"]);
    assert_eq!((start.offset, start.logged, start.published), (20, 40, 20));
}

#[test]
fn another_topic_stops_whatever_is_accepted() {
    let mut facts = facts(Some(40), Some(40));
    facts.at_anchor = Some(AtAnchor::Record { timestamp: 6, checksum: 0xbeef });
    insta::assert_snapshot!(refusal(&facts), @"partition 3: this is not the topic that the log was made from: the log's last record is at offset 39 with timestamp 5 and checksum 00c0ffee, and the topic has a record with timestamp 6 and checksum 0000beef there. The topic was made again, belongs to another cluster, or lost records. Name the right cluster and topic, or keep this log aside and start with a new file and a new group");
    facts.at_anchor = Some(AtAnchor::Nothing);
    insta::assert_snapshot!(refusal(&facts), @"partition 3: this is not the topic that the log was made from: the log's last record is at offset 39 with timestamp 5 and checksum 00c0ffee, and the topic has no record there. The topic was made again, belongs to another cluster, or lost records. Name the right cluster and topic, or keep this log aside and start with a new file and a new group");
    let all = Accept { lost_commands: true, republish: true, skip_unpublished: true };
    assert!(matches!(plan(&facts, all), Err(Refusal::OtherTopic { .. })));
}

#[test]
fn an_anchor_that_is_not_retained_is_not_asked_for() {
    let mut facts = starting_at(facts(Some(40), Some(40)), 40);
    facts.at_anchor = None;
    assert_eq!(retained_anchor(facts.cursor.as_ref(), facts.bounds), None);
    assert_eq!(cursors(&facts), (40, 40, 40));
}

#[test]
fn a_cursor_beyond_the_end_stops_whatever_is_accepted() {
    let all = Accept { lost_commands: true, republish: true, skip_unpublished: true };
    let logged = facts(Some(END + 1), Some(END));
    insta::assert_snapshot!(refusal(&Facts { at_anchor: logged.at_anchor, ..logged.clone() }), @"partition 3: the logged cursor is at 101, beyond the topic's end (it holds 0 to 100). The topic was made again, belongs to another cluster, or lost records. Name the right cluster and topic, or keep this log aside and start with a new file and a new group");
    assert!(plan(&logged, all).is_err());
    let published = facts(Some(END), Some(END + 1));
    insta::assert_snapshot!(refusal(&published), @"partition 3: the published cursor is at 101, beyond the topic's end (it holds 0 to 100). The topic was made again, belongs to another cluster, or lost records. Name the right cluster and topic, or keep this log aside and start with a new file and a new group");
    assert!(plan(&published, all).is_err());
    assert!(plan(&facts(None, Some(END + 1)), all).is_err());
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
