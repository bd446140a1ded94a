//! The decisions depend only on each partition's records, not on how they are cut into batches or when the log is
//! reopened.

use proptest::prelude::*;

use rusqlite::OptionalExtension as _;

use super::*;

#[derive(Debug, Clone)]
struct Item {
    partition: i32,
    skip: i64,
    later_ms: i64,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Rejected { bad_timestamp: bool },
    Plain,
    Keyed { key: u8, content: u8 },
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let kind = prop_oneof![
        1 => any::<bool>().prop_map(|bad_timestamp| Kind::Rejected { bad_timestamp }),
        1 => Just(Kind::Plain),
        8 => (0..6_u8, prop_oneof![5 => Just(0_u8), 1 => Just(1)])
            .prop_map(|(key, content)| Kind::Keyed { key, content }),
    ];
    let later_ms =
        prop_oneof![6 => 0..12_i64, 2 => -100..0_i64, 1 => 60..100_i64, 1 => 79..=81_i64, 1 => Just(200)];
    let item = (0..3, 0..3_i64, later_ms, kind).prop_map(|(partition, skip, later_ms, kind)| Item {
        partition,
        skip,
        later_ms,
        kind,
    });
    prop::collection::vec(item, 1..120)
}

fn records(items: &[Item]) -> Vec<Verdict> {
    let mut next = [(0, 1000); 3];
    let record = |item: &Item| {
        let (offset, timestamp) = &mut next[item.partition as usize];
        *offset += item.skip;
        *timestamp += item.later_ms;
        let mut at = at(item.partition, *offset, (*timestamp).max(0));
        *offset += 1;
        match item.kind {
            Kind::Rejected { bad_timestamp } => {
                if bad_timestamp {
                    at.timestamp = 253_402_300_800_000;
                }
                rejected(at)
            }
            Kind::Plain => valid(at, None),
            Kind::Keyed { key: number, content } => valid(at, Some(key(number, content))),
        }
    };
    items.iter().map(record).collect()
}

/// Appends the records in batches: each cut has a number of records, and whether to reopen the log after them.
fn run(records: &[Verdict], cuts: &[(usize, bool)]) -> (Vec<Recorded>, Vec<Cursor>) {
    let (_directory, options, log) = new_log();
    let mut log = Some(log);
    let mut cuts = cuts.iter().cycle();
    let mut rest = records;
    let mut settled = Vec::new();
    while !rest.is_empty() {
        let &(length, reopen) = cuts.next().unwrap();
        let (batch, further) = rest.split_at(length.min(rest.len()));
        rest = further;
        let mut by_partition: BTreeMap<i32, Vec<Verdict>> = BTreeMap::new();
        for verdict in batch {
            by_partition.entry(verdict.coordinates.partition).or_default().push(verdict.clone());
        }
        let chunks = by_partition.into_values().map(chunk).collect();
        settled.extend(log.as_mut().unwrap().append(chunks, &[]).unwrap().into_iter().flatten());
        if reopen {
            drop(log.take());
            log = Some(EventLog::open(&options).unwrap());
        }
    }
    let log = log.unwrap();
    let cursors = log.cursors().unwrap();
    let mut all: Vec<Recorded> = settled.iter().map(as_recorded).collect();
    all.sort_by_key(|one| one.coordinates);
    let kept: Vec<Recorded> =
        cursors.iter().flat_map(|cursor| log.recorded(cursor.partition, 0..cursor.logged).unwrap()).collect();
    assert_eq!(kept, all, "the log has what append returned");
    drop(log);
    audit(&options.path);
    check_claims(&options.path, &cursors);
    for one in &mut all {
        one.position = None; // the order between partitions is the batches'
    }
    (all, cursors)
}

/// A row of claims is deleted at the latest when the bucket of its last one, an eighth of the window, has expired.
fn check_claims(path: &Path, cursors: &[Cursor]) {
    let connection = Connection::open(path).unwrap();
    for cursor in cursors {
        let ids = claim_group::ids(cursor.partition);
        let first_row = "SELECT * FROM claim_groups WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT 1";
        let last_claim =
            |row: &rusqlite::Row<'_>| Ok(claim_group::claims_in(row)?.1.next_back().unwrap().last_seen);
        let oldest = connection.query_row(first_row, [ids.start, ids.end], last_claim).optional().unwrap();
        let claimed = oldest.is_some_and(|oldest| cursor.clock - oldest < WINDOW_MS + WINDOW_MS / 8);
        // Rejections and commands without a key advance the clock after reopening, but don't load the window.
        assert!(claimed || oldest.is_none() || is_not_loaded(&connection, cursor));
    }
}

fn is_not_loaded(connection: &Connection, cursor: &Cursor) -> bool {
    let ids = claim_group::ids(cursor.partition);
    let last: i64 = connection
        .query_row(
            "SELECT max(id) FROM claim_groups WHERE id >= ?1 AND id < ?2",
            [ids.start, ids.end],
            |row| row.get(0),
        )
        .unwrap();
    let last = last - ids.start;
    last < cursor.logged - 1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn batches_and_reopening_change_no_decision(
        items in items(),
        cuts in prop::collection::vec((1..40_usize, prop::bool::weighted(0.3)), 1..6),
    ) {
        let records = records(&items);
        let mut model = Model::default();
        let mut wanted: Vec<_> =
            records.iter().map(|verdict| (verdict.coordinates, model.settle(verdict))).collect();
        wanted.sort_by_key(|(at, _)| *at);

        let (whole, cursors) = run(&records, &[(records.len(), false)]);
        let found: Vec<_> = whole.iter().map(|one| (one.coordinates, expected(&one.decision))).collect();
        prop_assert_eq!(found, wanted);
        for cursor in &cursors {
            prop_assert_eq!(cursor.clock, model.clock[&cursor.partition]);
        }
        let (cut, cut_cursors) = run(&records, &cuts);
        prop_assert_eq!(cut, whole);
        prop_assert_eq!(cut_cursors, cursors);
    }
}

#[test]
fn a_window_far_larger_than_a_batch_agrees_with_the_model() {
    let (_directory, options, log) = new_log();
    let mut log = Some(log);
    let mut model = Model::default();
    let mut seed = 7_u64;
    let mut offset = 0;
    let mut duplicates = 0;
    for batch in 0..60 {
        let verdicts: Vec<Verdict> = (0..500)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let number = (seed >> 33) % 5000;
                let mut key = key(0, 1);
                key.hash[..8]
                    .copy_from_slice(&(number / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
                key.hash[8] = (number % 2) as u8;
                offset += 1;
                valid(at(0, offset, offset / 100), Some(key))
            })
            .collect();
        let wanted: Vec<_> = verdicts.iter().map(|verdict| model.settle(verdict)).collect();
        if batch % 7 == 6 {
            drop(log.take());
        }
        let log = log.get_or_insert_with(|| EventLog::open(&options).unwrap());
        let settled = log.append(vec![chunk(verdicts)], &[]).unwrap();
        let found: Vec<_> = settled[0].iter().map(|one| expected(&one.decision)).collect();
        duplicates += found.iter().filter(|one| matches!(one, Expected::Duplicate(_))).count();
        assert_eq!(found, wanted, "batch {batch}");
    }
    assert!(duplicates > 5000);
    drop(log);
    audit(&options.path);
    let connection = Connection::open(&options.path).unwrap();
    let count = "SELECT sum(length(claims)) / 64 FROM claim_groups";
    let kept: i64 = connection.query_row(count, [], |row| row.get(0)).unwrap();
    // 100 commands a millisecond, for a window and an eighth.
    assert!(kept <= 100 * (WINDOW_MS + WINDOW_MS / 8) + 100, "{kept} claims kept");
}

/// A bucket of the window can have millions of rows, and an append that deleted them all would block the log for minutes.
#[test]
fn expired_claims_are_deleted_in_portions() {
    let (_directory, options, mut log) = new_log();
    let keyed = |offset: i64, timestamp: i64| {
        let mut key = key(0, 1);
        key.hash[..8]
            .copy_from_slice(&offset.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()).to_be_bytes());
        valid(at(0, offset, timestamp), Some(key))
    };
    log.append(vec![chunk((0..5000).map(|offset| keyed(offset, 1)).collect())], &[]).unwrap();
    let connection = Connection::open(&options.path).unwrap();
    let rows = || -> i64 {
        connection.query_row("SELECT count(*) FROM claim_groups", [], |row| row.get(0)).unwrap()
    };
    let mut before = rows();
    for offset in 5000..5010 {
        log.append(vec![chunk(vec![keyed(offset, 1 + 2 * WINDOW_MS)])], &[]).unwrap();
        let after = rows();
        assert!(after >= before + 1 - 68, "{before} rows, then {after}");
        before = after;
    }
    assert_eq!(before, 10);
}

#[test]
fn commands_without_a_key_never_read_the_claims() {
    let (_directory, options, mut log) = new_log();
    // Without the table, every read of it fails.
    Connection::open(&options.path).unwrap().execute_batch("DROP TABLE claim_groups").unwrap();
    log.append(vec![chunk(vec![valid(at(0, 0, 1), None), rejected(at(0, 1, 1))])], &[]).unwrap();
    log.append(vec![chunk(vec![valid(at(0, 2, 1), Some(key(1, 1)))])], &[]).unwrap_err();
}
