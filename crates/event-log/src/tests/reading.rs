//! Queries and statistics.

use contract::{Decider, Limits, Record};

use super::*;

/// Several batches in three partitions, with holes in the offsets.
fn batches() -> (TempDir, LogOptions, EventLog, Vec<Settled>) {
    let (directory, options, mut log) = new_log();
    let mut all = Vec::new();
    for batch in 0..20_i64 {
        let chunks = (0..3).map(|partition| {
            let base = batch * 40;
            chunk(
                (0..40)
                    .filter(|offset| offset % (2 + i64::from(partition)) != 1)
                    .map(|offset| {
                        let at = at(partition, base + offset, 1000 + base + offset);
                        match offset % 7 {
                            0 => rejected(at),
                            1 => valid(at, Some(key(1, 1))),
                            _ => valid(at, None),
                        }
                    })
                    .collect(),
            )
        });
        all.extend(log.append(chunks.collect(), &[]).unwrap().into_iter().flatten());
    }
    (directory, options, log, all)
}

fn listed(reader: &LogReader, query: &ListQuery) -> Vec<Listed> {
    list(reader, query).unwrap().into_iter().map(Result::unwrap).collect()
}

#[test]
fn show_returns_the_decision_for_every_id() {
    let (_directory, options, log, all) = batches();
    let reader = LogReader::open(&options.path).unwrap();
    for settled in &all {
        let at = settled.coordinates;
        match (reader.show(id(at)).unwrap(), &settled.decision) {
            (Shown::Event(listed), Decision::Accepted(event)) => {
                assert_eq!(Some(listed.position), settled.position);
                assert_eq!((listed.id, listed.coordinates), (event.id(), at));
                assert_eq!(listed.json, event.json());
            }
            (Shown::Duplicate { coordinates, of }, Decision::Duplicate { of: wanted }) => {
                assert_eq!((coordinates, &of), (at, wanted));
            }
            (Shown::Rejected { coordinates, problems }, Decision::Rejected(wanted)) => {
                assert_eq!((coordinates, &problems), (at, wanted));
            }
            other => panic!("{other:?}"),
        }
        let late = Coordinates { timestamp: at.timestamp + 1, ..at };
        assert_eq!(
            reader.show(id(late)).unwrap(),
            Shown::Absent(Absence::OtherCommand { coordinates: at, id: id(at) })
        );
    }
    drop(log);
    audit(&options.path);
}

#[test]
fn show_says_why_an_id_is_absent() {
    let (_directory, options, mut log, _) = batches();
    let gap = Gap { first_offset: 799, next_offset: 900, reason: "retention".to_owned() };
    log.start_partition(0, Some(gap.clone()), None).unwrap();
    let reader = LogReader::open(&options.path).unwrap();
    let absence = |at| match reader.show(id(at)).unwrap() {
        Shown::Absent(absence) => absence,
        other => panic!("{other:?}"),
    };
    assert_eq!(absence(at(0, 1, 1001)), Absence::NoCommand { partition: 0, offset: 1 });
    assert_eq!(absence(at(0, 850, 1)), Absence::InGap { partition: 0, offset: 850, gap });
    assert_eq!(absence(at(0, 900, 1)), Absence::NotYet { partition: 0, offset: 900, logged: 900 });
    assert_eq!(absence(at(8, 0, 1)), Absence::UnknownPartition { partition: 8 });
    let other_topic = ActivityId::new(contract::topic_bits("other"), at(0, 2, 1002));
    assert_eq!(reader.show(other_topic).unwrap(), Shown::Absent(Absence::OtherTopic));
}

#[test]
fn recorded_returns_what_append_returned_for_any_range() {
    let (_directory, _options, log, all) = batches();
    for partition in 0..3 {
        let of: Vec<_> =
            all.iter().filter(|one| one.coordinates.partition == partition).map(as_recorded).collect();
        for start in (0..810).step_by(13) {
            for length in [0, 1, 2, 17, 39, 40, 41, 300] {
                let wanted: Vec<_> = of
                    .iter()
                    .filter(|one| (start..start + length).contains(&one.coordinates.offset))
                    .cloned()
                    .collect();
                assert_eq!(log.recorded(partition, start..start + length).unwrap(), wanted);
            }
        }
    }
}

/// The log's rows by [`LogReader::rows`], as what `recorded` returns, and whether the log finds each event.
fn rows(reader: &LogReader, mut each: impl FnMut()) -> Vec<(Recorded, bool)> {
    let mut rows = Vec::new();
    let read = reader.rows(|row| {
        each();
        let Row { coordinates, checksum, content } = row.unwrap();
        let (decision, position, found) = match content {
            Content::Event { position, json, is_found, .. } => {
                let event = Event::from_log(contract::topic_bits(TOPIC), coordinates, json).unwrap();
                (Decision::Accepted(event), Some(position), is_found)
            }
            Content::Duplicate { of_offset, of_timestamp } => {
                let of = id(at(coordinates.partition, of_offset, of_timestamp));
                (Decision::Duplicate { of }, None, true)
            }
            Content::Rejection { problems } => {
                (Decision::Rejected(serde_json::from_str(&problems).unwrap()), None, true)
            }
        };
        rows.push((Recorded { coordinates, checksum, decision, position }, found));
        Ok::<_, LogError>(ControlFlow::Continue(()))
    });
    read.unwrap();
    rows
}

#[test]
fn rows_returns_every_row_in_any_number_of_strides() {
    let (_directory, options, mut log, all) = batches();
    let reader = LogReader::open(&options.path).unwrap();
    let mut found: Vec<_> = rows(&reader, || ()).into_iter().map(|(row, _)| row).collect();
    let mut wanted: Vec<_> = all.iter().map(as_recorded).collect();
    found.sort_by_key(|row| row.coordinates);
    wanted.sort_by_key(|row| row.coordinates);
    assert_eq!(found, wanted);

    let before = all.iter().filter(|settled| settled.position.is_some()).count();
    log.append(plain(1000..11_000), &[]).unwrap();
    // Events that are appended during the call are left out.
    let mut next = 11_000;
    let found = rows(&reader, || {
        log.append(plain(next..next + 1), &[]).unwrap();
        next += 1;
    });
    assert!(found.iter().all(|(_, is_found)| *is_found));
    assert_eq!(found.iter().filter(|(row, _)| row.position.is_some()).count(), before + 10_000);
}

#[test]
fn rows_says_which_events_the_log_does_not_find() {
    let (_directory, options, log, all) = batches();
    drop(log);
    let first = all.iter().find(|settled| settled.position == Some(1)).unwrap();
    let Coordinates { partition, offset, .. } = first.coordinates;
    let events = Connection::open(&options.path).unwrap();
    let delete = "DELETE FROM batches WHERE partition = ?1 AND first_offset = ?2 RETURNING events";
    let lost: i64 = events.query_row(delete, (partition, offset), |row| row.get(0)).unwrap();
    drop(events);
    let found = rows(&LogReader::open(&options.path).unwrap(), || ());
    let positions: Vec<_> = found.iter().filter(|(_, found)| !found).map(|(row, _)| row.position).collect();
    assert_eq!(positions, (1..=lost).map(Some).collect::<Vec<_>>());
}

#[test]
fn an_object_is_found_whichever_slash_separates_type_and_id() {
    let (_directory, options, mut log) = new_log();
    let with = |offset, object_type: &str, object_id: &str| {
        let json = format!(r#"{{"@type":"update","objectType":"{object_type}","objectId":"{object_id}"}}"#);
        let record = Record {
            coordinates: at(0, offset, 1000),
            key: None,
            value: Some(json.into()),
            headers: Vec::new(),
        };
        Decider::new(options.topic.clone(), Limits::default()).read(&record)
    };
    let verdicts = vec![with(0, "a/b", "c"), with(1, "a", "b/c"), with(2, "a/b", "d")];
    log.append(vec![chunk(verdicts)], &[]).unwrap();
    let reader = LogReader::open(&options.path).unwrap();
    let query = ListQuery { object: Some("a/b/c".to_owned()), ..ListQuery::default() };
    let offsets: Vec<_> = listed(&reader, &query).iter().map(|listed| listed.coordinates.offset).collect();
    assert_eq!(offsets, [0, 1]);
}

#[test]
fn a_list_is_filtered_ordered_limited_and_can_be_broken_off() {
    let (_directory, options, _log, all) = batches();
    let reader = LogReader::open(&options.path).unwrap();
    let events: Vec<i64> = all.iter().filter_map(|one| one.position).collect();
    let positions = |query: ListQuery| -> Vec<i64> {
        listed(&reader, &query).into_iter().map(|listed| listed.position).collect()
    };
    assert_eq!(positions(ListQuery::default()), events);
    let newest = ListQuery { order: Order::NewestFirst, limit: Some(5), ..ListQuery::default() };
    assert_eq!(positions(newest), events.iter().rev().take(5).copied().collect::<Vec<_>>());
    assert_eq!(positions(ListQuery { limit: Some(0), ..ListQuery::default() }), [0; 0]);

    let timed = listed(&reader, &ListQuery { since: Some(1100), until: Some(1200), ..ListQuery::default() });
    assert!(timed.iter().all(|listed| (1100..1200).contains(&listed.coordinates.timestamp)));
    let wanted = all.iter().filter(|one| one.position.is_some());
    let wanted = wanted.filter(|one| (1100..1200).contains(&one.coordinates.timestamp)).count();
    assert_eq!(timed.len(), wanted);

    let object = Some("case/1".to_owned());
    let of_object = listed(&reader, &ListQuery { object, ..ListQuery::default() });
    assert!(of_object.iter().all(|listed| listed.object_id == "1"));
    let wanted = all.iter().filter(|one| one.position.is_some());
    assert_eq!(of_object.len(), wanted.filter(|one| one.coordinates.offset % 3 == 1).count());

    let mut seen = 0;
    reader
        .list(&ListQuery::default(), |_| {
            seen += 1;
            Ok::<_, LogError>(if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
        .unwrap();
    assert_eq!(seen, 3);
}

#[test]
fn a_list_longer_than_a_stride_and_larger_than_the_buffer_is_complete() {
    let (_directory, options, mut log) = new_log();
    let wide = "x".repeat(1 << 19);
    let small = (0..9000).map(|offset| valid(at(0, offset, 1), None));
    let large = (9000..9020).map(|offset| {
        let at = at(0, offset, 1);
        let json = format!(
            r#"{{"@type":"share","objectType":"case","objectId":"7","publishedAt":"1970-01-01T00:00:00.001Z","targets":[{{"@type":"Everyone","notify":false}}],"content":"{wide}"}}"#
        );
        let event = Event::from_log(contract::topic_bits(TOPIC), at, json).unwrap();
        Verdict { reading: Reading::Valid { event, key: None }, ..valid(at, None) }
    });
    log.append(vec![chunk(small.chain(large).collect())], &[]).unwrap();
    let reader = LogReader::open(&options.path).unwrap();
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let mut listed: Vec<i64> = listed(&reader, &ListQuery { order, ..ListQuery::default() })
            .into_iter()
            .map(|listed| listed.position)
            .collect();
        if order == Order::NewestFirst {
            listed.reverse();
        }
        assert_eq!(listed, (1..=9020).collect::<Vec<_>>());
    }
    assert_eq!(rows(&reader, || ()).len(), 9020);
}

#[test]
fn a_list_ends_where_the_log_ended_at_its_start() {
    let (_directory, options, mut log) = new_log();
    log.append(plain(0..1), &[]).unwrap();
    let reader = LogReader::open(&options.path).unwrap();
    let mut seen = 0;
    reader
        .list(&ListQuery::default(), |_| {
            seen += 1;
            log.append(plain(seen..seen + 1), &[]).unwrap();
            Ok::<_, LogError>(ControlFlow::Continue(()))
        })
        .unwrap();
    assert_eq!(seen, 1);
    assert_eq!(reader.stats().unwrap().counts.events, 2);
}

#[test]
fn stats_return_the_counts() {
    let (_directory, options, _log, all) = batches();
    let stats = LogReader::open(&options.path).unwrap().stats().unwrap();
    let count = |wanted: fn(&Decision) -> bool| all.iter().filter(|one| wanted(&one.decision)).count() as u64;
    assert_eq!(stats.counts.events, count(|decision| matches!(decision, Decision::Accepted(_))));
    assert_eq!(stats.counts.duplicates, count(|decision| matches!(decision, Decision::Duplicate { .. })));
    assert_eq!(stats.counts.rejections, count(|decision| matches!(decision, Decision::Rejected(_))));
    assert!(stats.counts.events > 0 && stats.counts.duplicates > 0 && stats.counts.rejections > 0);
    let times = all.iter().filter(|one| one.position.is_some()).map(|one| one.coordinates.timestamp);
    assert_eq!((stats.counts.earliest, stats.counts.latest), (times.clone().min(), times.max()));
    assert_eq!(stats.partitions.iter().map(|one| one.cursor.partition).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((stats.topic.as_str(), stats.schema_version), (TOPIC, 3));
    assert!(stats.file_bytes > PAGE_BYTES.into());
}

#[test]
fn the_views_show_the_programs_ids() {
    let (_directory, options, mut log) = new_log();
    let last = at(16383, (1 << 48) - 1, 253_402_300_799_999);
    log.append(
        vec![chunk(vec![valid(at(3, 12_345, 1_795_478_400_123), None)]), chunk(vec![valid(last, None)])],
        &[],
    )
    .unwrap();
    log.append(vec![chunk(vec![rejected(at(3, 12_346, 5))])], &[]).unwrap();
    let connection = Connection::open(&options.path).unwrap();
    let row = connection
        .query_row("SELECT id, time, verb FROM activities ORDER BY position LIMIT 1", [], |row| {
            Ok::<(String, String, String), _>((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    let wanted = ("01a20ada-2c7b-89d1-8003-000000003039", "2026-11-24T00:00:00.123Z", "update");
    assert_eq!((row.0.as_str(), row.1.as_str(), row.2.as_str()), wanted);
    let ids: Vec<String> = connection
        .prepare("SELECT id FROM activities ORDER BY position")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(ids[1], id(last).to_string());
    let code: String = connection.query_row("SELECT code FROM refusals", [], |row| row.get(0)).unwrap();
    assert_eq!(code, "wrong_type");
}
