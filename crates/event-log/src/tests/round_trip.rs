//! Reads return what was written.

use super::*;

#[test]
fn appended_commands_are_recorded_and_survive_reopening() {
    let (_directory, options, mut log) = new_log();
    let instance = log.instance_id();
    log.start_partition(0, None, None).unwrap();
    let first = log
        .append(
            vec![
                chunk(vec![
                    valid(at(0, 0, 100), Some(key(1, 1))),
                    rejected(at(0, 1, -1)),
                    valid(at(0, 5, 110), Some(key(1, 1))),
                    valid(at(0, 6, 105), None),
                    valid(at(0, 7, 105), Some(key(1, 2))),
                ]),
                Chunk { next_offset: 9, ..chunk(vec![valid(at(3, 2, 7), None)]) },
            ],
            &[],
        )
        .unwrap();
    assert_eq!(
        first[0].iter().map(|one| one.position).collect::<Vec<_>>(),
        [Some(1), None, None, Some(2), None]
    );
    assert_eq!(first[1][0].position, Some(3));
    assert_eq!(first[0][2].decision, Decision::Duplicate { of: id(at(0, 0, 100)) });
    assert!(matches!(first[0][4].decision, Decision::Rejected(_)), "the same key with other content");

    let cursor = log.cursor(0).unwrap().unwrap();
    assert_eq!((cursor.logged, cursor.clock, cursor.clean), (8, 110, false));
    assert_eq!(cursor.anchor, Some(Anchor { offset: 7, timestamp: 105, checksum: checksum(at(0, 7, 105)) }));
    assert_eq!(log.cursor(3).unwrap().unwrap().logged, 9);
    assert_eq!(log.cursor(1).unwrap(), None);

    let cursors = log.cursors().unwrap();
    drop(log);
    let log = EventLog::open(&options).unwrap();
    assert_eq!(log.instance_id(), instance);
    assert_eq!(log.cursors().unwrap(), cursors);
    let all: Vec<_> = first[0].iter().map(as_recorded).collect();
    assert_eq!(log.recorded(0, 0..i64::MAX).unwrap(), all);
    assert_eq!(log.recorded(0, 1..6).unwrap(), all[1..3]);
    assert_eq!(log.recorded(0, 2..5).unwrap(), []);
    assert_eq!(log.recorded(3, 0..3).unwrap(), first[1].iter().map(as_recorded).collect::<Vec<_>>());
    assert_eq!(log.recorded(9, 0..3).unwrap(), []);
    assert_eq!(audit(&options.path), 3);
}

/// Version 0.1.0 computed fingerprints of the content as it was written, later versions of its canonical form.
#[test]
fn a_claim_of_an_earlier_version_is_found_and_renewed() {
    let (_directory, options, mut log) = new_log();
    let earlier = key(1, 1);
    log.append(vec![chunk(vec![valid(at(0, 0, 1), Some(earlier))])], &[]).unwrap();
    drop(log);
    let mut log = EventLog::open(&options).unwrap();
    let same = IdempotencyKey { fingerprint: [9; 16], ..earlier };
    let otherwise_written = IdempotencyKey { as_written: [2; 16], ..same };
    let other = IdempotencyKey { fingerprint: [8; 16], as_written: [8; 16], ..same };
    let keys = [other, same, otherwise_written, same, other];
    let verdicts = (1..).zip(keys).map(|(offset, key)| valid(at(0, offset, 1), Some(key))).collect();
    let settled = log.append(vec![chunk(verdicts)], &[]).unwrap();
    let duplicates: Vec<_> = settled[0]
        .iter()
        .map(|one| matches!(one.decision, Decision::Duplicate { of } if of == id(at(0, 0, 1))))
        .collect();
    assert_eq!(duplicates, [false, true, true, true, false]);
}

#[test]
fn an_append_takes_several_chunks_of_one_partition() {
    let (_directory, options, mut log) = new_log();
    let chunks = vec![
        chunk(vec![valid(at(0, 0, 1), Some(key(1, 1)))]),
        chunk(vec![valid(at(1, 0, 1), None)]),
        chunk(vec![valid(at(0, 1, 1), Some(key(1, 1))), valid(at(0, 2, 1), None)]),
    ];
    let settled = log.append(chunks, &[]).unwrap();
    assert!(matches!(settled[2][0].decision, Decision::Duplicate { .. }));
    assert_eq!(settled[2][1].position, Some(3));
    assert_eq!(log.recorded(0, 0..9).unwrap().len(), 3);
    drop(log);
    audit(&options.path);
}

#[test]
fn a_chunk_without_records_only_moves_the_cursor() {
    let (_directory, options, mut log) = new_log();
    log.append(vec![chunk(vec![valid(at(0, 4, 1), None)])], &[]).unwrap();
    let before = log.cursor(0).unwrap().unwrap();
    log.append(vec![Chunk { partition: 0, next_offset: 12, verdicts: Vec::new() }], &[]).unwrap();
    assert_eq!(log.cursor(0).unwrap().unwrap(), Cursor { logged: 12, ..before });
    assert_eq!(log.append(Vec::new(), &[]).unwrap(), Vec::<Vec<Settled>>::new());
    drop(log);
    audit(&options.path);
}

#[test]
fn a_chunk_out_of_order_is_refused_and_changes_nothing() {
    let (_directory, _options, mut log) = new_log();
    log.append(vec![chunk(vec![valid(at(0, 0, 1), None), valid(at(0, 1, 1), None)])], &[]).unwrap();
    let before = log.cursors().unwrap();
    let wrong_event = Verdict { coordinates: at(0, 3, 1), ..valid(at(0, 2, 1), None) };
    let wrong = [
        (vec![chunk(vec![valid(at(0, 1, 1), None)])], "the first offset"),
        (vec![chunk(vec![valid(at(0, 3, 1), None), valid(at(0, 3, 1), None)])], "an offset after another"),
        (vec![Chunk { next_offset: 2, ..chunk(vec![valid(at(0, 2, 1), None)]) }], "the next offset"),
        (vec![Chunk { partition: 0, next_offset: 1, verdicts: Vec::new() }], "the next offset"),
        (vec![Chunk { partition: 1, ..chunk(vec![valid(at(0, 2, 1), None)]) }], "a record's partition"),
        (vec![chunk(vec![wrong_event])], "an event's own offset"),
        (
            vec![chunk(vec![valid(at(0, 2, 1), None)]), chunk(vec![valid(at(0, 2, 1), None)])],
            "the first offset",
        ),
        (vec![chunk(vec![rejected(at(5, -1, 1))])], "the first offset"),
    ];
    for (chunks, wanted) in wrong {
        match log.append(chunks, &[(0, 1)]) {
            Err(LogError::OutOfOrder { what, .. }) => assert_eq!(what, wanted),
            other => panic!("wanted {wanted}, found {other:?}"),
        }
        assert_eq!(log.cursors().unwrap(), before);
    }
    log.append(vec![chunk(vec![valid(at(0, 2, 1), None)])], &[]).unwrap();
}

#[test]
fn published_seen_only_rises_until_a_clean_stop_sets_it() {
    let (_directory, options, mut log) = new_log();
    let cursor = log.start_partition(2, None, None).unwrap();
    assert_eq!((cursor.logged, cursor.published_seen, cursor.clean), (0, None, false));
    log.append(vec![chunk(vec![valid(at(2, 0, 1), None)])], &[(2, 5)]).unwrap();
    log.append(Vec::new(), &[(2, 3)]).unwrap();
    assert_eq!(log.cursor(2).unwrap().unwrap().published_seen, Some(5));
    log.record_clean_stop(&[(2, 4)]).unwrap();
    drop(log);

    let mut log = EventLog::open(&options).unwrap();
    let cursor = log.cursor(2).unwrap().unwrap();
    assert_eq!((cursor.published_seen, cursor.clean), (Some(4), true));
    assert!(!log.start_partition(2, None, None).unwrap().clean);
    drop(log);
    let mut log = EventLog::open(&options).unwrap();
    assert!(!log.cursor(2).unwrap().unwrap().clean, "the partition started, and the process was killed");

    log.record_clean_stop(&[(2, 4)]).unwrap();
    log.append(vec![chunk(vec![valid(at(2, 1, 1), None)])], &[]).unwrap();
    assert!(!log.cursor(2).unwrap().unwrap().clean);
}

/// Its log may be a copy of another one, whose instance has published more since.
#[test]
fn a_new_instance_does_not_rely_on_the_clean_stop_of_its_log() {
    let (_directory, options, mut log) = new_log();
    log.append(vec![chunk(vec![valid(at(0, 0, 1), None)]), chunk(vec![valid(at(1, 0, 1), None)])], &[])
        .unwrap();
    log.record_clean_stop(&[(0, 1), (1, 1)]).unwrap();
    let found = |log: EventLog| -> Vec<_> {
        log.cursors().unwrap().iter().map(|cursor| (cursor.published_seen, cursor.clean)).collect()
    };
    assert_eq!(found(log), [(Some(1), true); 2]);
    assert_eq!(found(EventLog::open(&options).unwrap()), [(Some(1), true); 2], "the same instance");

    fs::remove_file(with_suffix(&options.path, "-instance")).unwrap();
    // An attempt that fails changes nothing, so it must not leave an id either.
    let of_another_topic = LogOptions { topic: "other".to_owned(), ..options.clone() };
    EventLog::open(&of_another_topic).map(drop).unwrap_err();
    for _ in 0..2 {
        assert_eq!(found(EventLog::open(&options).unwrap()), [(Some(1), false); 2]);
    }
}

/// The group's offset is committed in between, and the process may be killed then.
#[test]
fn an_intervention_is_recorded_before_its_partition_starts() {
    let (_directory, options, mut log) = new_log();
    log.append(vec![chunk(vec![valid(at(0, 0, 1), None)])], &[(0, 1)]).unwrap();
    log.record_clean_stop(&[(0, 1)]).unwrap();
    let intervention = |details: &str| Intervention { at: 7, flag: "f".into(), details: details.into() };
    let state = |log: &EventLog, partition| {
        let cursor = log.cursor(partition).unwrap();
        cursor.map(|cursor| (cursor.published_seen, cursor.clean))
    };
    // It only lowers `published_seen`, and never changes `clean`.
    for (accepted, seen) in [(5, 1), (1, 1), (0, 0)] {
        log.record_intervention(0, &intervention("known"), accepted).unwrap();
        assert_eq!(state(&log, 0), Some((Some(seen), true)), "{accepted}");
    }
    log.record_intervention(3, &intervention("not known"), 5).unwrap();
    assert_eq!(state(&log, 3), None);
    drop(log);
    let mut log = EventLog::open(&options).unwrap();
    assert_eq!((state(&log, 0), state(&log, 3)), (Some((Some(0), true)), None));
    log.start_partition(0, None, Some(5)).unwrap();
    assert_eq!(state(&log, 0), Some((Some(5), false)));
    let stats = log.reader().unwrap().stats().unwrap();
    let noted: Vec<_> = stats.interventions.iter().map(|(p, noted)| (*p, &noted.details[..])).collect();
    assert_eq!(noted, [(0, "known"), (0, "known"), (0, "known"), (3, "not known")]);
    drop(log);
    audit(&options.path);
}

#[test]
fn a_gap_starts_at_the_cursor_and_moves_it() {
    let (_directory, options, mut log) = new_log();
    log.append(vec![chunk(vec![valid(at(0, 0, 1), None)])], &[]).unwrap();
    let gap =
        |first_offset, next_offset| Some(Gap { first_offset, next_offset, reason: "retention".to_owned() });
    for wrong in [gap(0, 9), gap(2, 9), gap(1, 1)] {
        assert!(matches!(log.start_partition(0, wrong, None), Err(LogError::OutOfOrder { .. })));
    }
    let intervention =
        Intervention { at: 1_795_478_400_123, flag: "--accept-gap".to_owned(), details: "1..9".to_owned() };
    log.record_intervention(0, &intervention, 9).unwrap();
    let cursor = log.start_partition(0, gap(1, 9), Some(9)).unwrap();
    assert_eq!(cursor.logged, 9);
    assert_eq!(cursor.anchor.unwrap().offset, 0);
    assert!(log.append(vec![chunk(vec![valid(at(0, 8, 1), None)])], &[]).is_err());
    log.append(vec![chunk(vec![valid(at(0, 9, 1), None)])], &[]).unwrap();
    log.start_partition(4, gap(0, 3), None).unwrap();

    let stats = LogReader::open(&options.path).unwrap().stats().unwrap();
    assert_eq!(stats.gaps, [(0, gap(1, 9).unwrap()), (4, gap(0, 3).unwrap())]);
    assert_eq!(stats.interventions, [(0, intervention)]);
    drop(log);
    audit(&options.path);
}

#[test]
fn only_the_append_of_what_is_followed_does_not_wait_for_the_disk() {
    let (_directory, options, log) = new_log();
    drop(log);
    let mut log = EventLog::open(&LogOptions { synchronous: Synchronous::Full, ..options }).unwrap();
    let synchronous = |log: &EventLog| -> i64 {
        log.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap()
    };
    let full = synchronous(&log);
    let follow = |log: &mut EventLog, offset| {
        let mut fates = [Fate::Read(valid(at(0, offset, 1), None))];
        log.append_followed(&mut [Stretch { partition: 0, next_offset: offset + 1, fates: &mut fates }])
    };
    follow(&mut log, 0).unwrap();
    assert_eq!((log.cursor(0).unwrap().unwrap().logged, synchronous(&log)), (1, full));
    follow(&mut log, 0).unwrap_err();
    assert_eq!(synchronous(&log), full, "also after an error");
    log.synchronize(Synchronous::Normal).unwrap();
    assert_ne!(synchronous(&log), full);
}
