//! Readers and the writer detect what a disk changed.

use rusqlite::types::Value;

use super::*;

/// All values of all tables except the checksums, read without the program's code.
pub(super) fn content(path: &Path) -> rusqlite::Result<Vec<Vec<Value>>> {
    let connection = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut content = Vec::new();
    for (table, columns, key) in [
        ("meta", "name, value", "name"),
        (
            "events",
            "position, partition, offset, timestamp, checksum, object_type, object_id, json",
            "position",
        ),
        (
            "duplicates",
            "partition, offset, timestamp, checksum, of_offset, of_timestamp",
            "partition, offset",
        ),
        ("rejections", "partition, offset, timestamp, checksum, problems", "partition, offset"),
        (
            "cursors",
            "partition, logged, clock, published_seen, clean, anchor_offset, anchor_timestamp, anchor_checksum, events, \
             duplicates, rejections, earliest, latest",
            "partition",
        ),
        (
            "batches",
            "partition, first_offset, next_offset, first_position, events",
            "partition, first_offset",
        ),
        (
            "claims",
            "partition, offset, key_hash, fingerprint, first_offset, first_timestamp, last_seen",
            "partition, offset",
        ),
        ("gaps", "partition, first_offset, next_offset, reason", "partition, first_offset"),
        ("interventions", "id, partition, at, flag, details", "id"),
    ] {
        if table == "claims" && schema::user_version(&connection)? == 3 {
            content.extend(unpacked_claims(&connection)?);
            continue;
        }
        let mut statement = connection.prepare(&format!("SELECT {columns} FROM {table} ORDER BY {key}"))?;
        let width = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let values = (0..width).map(|column| row.get(column));
            content.push(
                std::iter::once(Ok(Value::Text(table.to_owned())))
                    .chain(values)
                    .collect::<rusqlite::Result<_>>()?,
            );
        }
    }
    Ok(content)
}

/// The claims of version 3 as rows of table `claims` before.
pub(super) fn unpacked_claims(connection: &Connection) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut statement = connection.prepare("SELECT id >> 48, claims FROM claim_groups ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut unpacked = Vec::new();
    while let Some(row) = rows.next()? {
        let (partition, claims): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        unpacked.extend(claims.chunks(64).map(|claim| {
            let number =
                |at: usize| Value::Integer(i64::from_le_bytes(claim[at..at + 8].try_into().unwrap()));
            let hash = |at: usize| Value::Blob(claim[at..at + 16].to_vec());
            let named = [Value::Text("claims".to_owned()), Value::Integer(partition)];
            let values = [number(0), hash(32), hash(48), number(8), number(16), number(24)];
            named.into_iter().chain(values).collect()
        }));
    }
    Ok(unpacked)
}

#[test]
fn a_sound_log_has_no_findings() {
    let (_directory, options) = filled();
    let reader = LogReader::open(&options.path).unwrap();
    let (checked, findings) = check(&reader).unwrap();
    assert_eq!(findings, [""; 0]);
    assert!(checked.has_checksums);
    let connection = Connection::open(&options.path).unwrap();
    let rows = checksum::tables(schema::VERSION).map(|table| -> i64 {
        let count = format!("SELECT count(*) FROM {}", table.name);
        connection.query_row(&count, [], |row| row.get(0)).unwrap()
    });
    assert_eq!(checked.rows, rows.iter().sum::<i64>().unsigned_abs());
    let running = EventLog::open(&options).unwrap();
    assert_eq!(check(&running.reader().unwrap()).unwrap().1, [""; 0]);
}

#[test]
fn an_upgrade_keeps_the_content() {
    for version in [1, 2] {
        upgrade_keeps_the_content(version);
    }
}

fn upgrade_keeps_the_content(version: usize) {
    let (_directory, options) = version_1();
    schema::upgrade_to(version, &options.path);
    let before = content(&options.path).unwrap();
    for table in ["meta", "events", "duplicates", "rejections", "cursors", "batches", "claims", "gaps"] {
        assert!(before.iter().any(|row| row[0] == Value::Text(table.to_owned())), "{table}");
    }
    let listed = list_all(&LogReader::open(&options.path).unwrap(), Order::OldestFirst).unwrap();

    // A new instance would clear `clean`.
    fs::write(with_suffix(&options.path, "-instance"), uuid::Uuid::new_v4().to_string()).unwrap();
    let mut log = EventLog::open(&options).unwrap();
    assert_eq!(content(&options.path).unwrap(), before);
    let reader = LogReader::open(&options.path).unwrap();
    assert_eq!(reader.stats().unwrap().schema_version, 3);
    assert_eq!(list_all(&reader, Order::OldestFirst).unwrap(), listed);
    let (checked, findings) = check(&reader).unwrap();
    assert_eq!((findings, checked.has_checksums), (Vec::new(), true));

    // The key that offset 41 claimed at timestamp ...050 has not expired.
    let again = valid(at(1, 43, 1_795_478_400_060), Some(key(3, 1)));
    let settled = log.append(vec![chunk(vec![again])], &[]).unwrap().remove(0).remove(0);
    let of = id(at(1, 41, 1_795_478_400_050));
    assert!(matches!(settled.decision, Decision::Duplicate { of: found } if found == of), "{settled:?}");
    assert_eq!(check(&reader).unwrap().1, [""; 0]);
}

#[test]
fn an_older_log_is_read_without_an_upgrade() {
    for version in [1, 2] {
        read_without_an_upgrade(version);
    }
}

fn read_without_an_upgrade(version: usize) {
    let (directory, options) = version_1();
    schema::upgrade_to(version, &options.path);
    let bytes = fs::read(&options.path).unwrap();
    let reader = LogReader::open(&options.path).unwrap();
    let stats = reader.stats().unwrap();
    let found = (stats.schema_version, stats.gaps.len(), stats.interventions.len());
    assert_eq!(found, (version as i64, 1, 1));
    let listed = list_all(&reader, Order::NewestFirst).unwrap();
    assert_eq!(listed.len() as u64, stats.counts.events);
    for event in listed.into_iter().map(Result::unwrap) {
        assert!(matches!(reader.show(event.id), Ok(Shown::Event(shown)) if shown == event));
    }
    let (checked, findings) = check(&reader).unwrap();
    assert_eq!((findings, checked.has_checksums), (Vec::new(), version > 1));
    drop(reader);
    assert_eq!(fs::read(&options.path).unwrap(), bytes);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

/// A change of a row, and how the damaged row is reported.
const CHANGES: [(&str, &str); 18] = [
    (
        "UPDATE events SET json = replace(json, 'update', 'updale') WHERE position = 7",
        "table events, position 7: ",
    ),
    ("UPDATE events SET object_id = '9' WHERE position = 7", "table events, position 7: "),
    ("UPDATE events SET offset = offset + 1 WHERE position = 7", "table events, position 7: "),
    ("UPDATE events SET partition = 1 - partition WHERE position = 7", "table events, position 7: "),
    ("UPDATE events SET timestamp = timestamp + 1 WHERE position = 7", "table events, position 7: "),
    ("UPDATE events SET checksum = checksum + 1 WHERE position = 7", "table events, position 7: "),
    ("UPDATE events SET row_checksum = row_checksum + 1 WHERE position = 7", "table events, position 7: "),
    ("UPDATE duplicates SET of_offset = 2 WHERE offset = 37", "table duplicates, partition 0 offset 37: "),
    ("UPDATE rejections SET problems = '[]' WHERE offset = 8", "table rejections, partition 0 offset 8: "),
    ("UPDATE cursors SET logged = logged + 1 WHERE partition = 0", "table cursors, partition 0: "),
    ("UPDATE cursors SET published_seen = NULL WHERE partition = 0", "table cursors, partition 0: "),
    ("UPDATE cursors SET clean = 0 WHERE partition = 0", "table cursors, partition 0: "),
    (
        "UPDATE batches SET events = -1 WHERE first_offset = 17",
        "table batches, partition 0 first_offset 17: ",
    ),
    ("UPDATE claim_groups SET id = 63 WHERE id = 62", "table claim_groups, id 63: "),
    ("UPDATE claim_groups SET claims = zeroblob(64) WHERE id = 62", "table claim_groups, id 62: "),
    ("UPDATE gaps SET next_offset = 1000", "table gaps, partition 1 first_offset 64: "),
    ("UPDATE interventions SET flag = 'x'", "table interventions, id 1: "),
    ("UPDATE meta SET value = 7 WHERE name = 'topic_bits'", "table meta, name \"topic_bits\": "),
];

#[test]
fn the_check_reports_a_changed_row() {
    for (sql, named) in CHANGES {
        let (_directory, options) = filled();
        change(&options, sql);
        let reader = LogReader::open_damaged(&options.path).unwrap();
        let (_, findings) = check(&reader).unwrap();
        assert!(findings.iter().any(|finding| finding.starts_with(named)), "{sql}: {findings:?}");
    }
}

#[test]
fn the_check_reports_tables_that_disagree() {
    let changes = [
        (
            "DELETE FROM batches WHERE first_offset = 17 AND partition = 0",
            "no row of table batches leads to it",
        ),
        ("INSERT INTO batches VALUES (0, 1000, 1001, 2, 1, 0)", "table batches"),
        ("DELETE FROM duplicates WHERE offset = 37", "it counts"),
        ("DELETE FROM claim_groups WHERE id = 62", "rows of table claim_groups"),
        ("UPDATE claim_groups SET id = 63 WHERE id = 62", "do not ascend to the offset in its id"),
        (
            "UPDATE claim_groups SET claims = cast((SELECT c.claims FROM claim_groups AS c WHERE \
             c.id = 46) || claims AS BLOB) WHERE id = 62",
            "does not come after the claim before it",
        ),
        ("UPDATE claim_groups SET claims = zeroblob(0) WHERE id = 62", "its claims have 0 bytes"),
        ("UPDATE claim_groups SET claims = zeroblob(65) WHERE id = 62", "its claims have 65 bytes"),
        ("UPDATE cursors SET logged = 3 WHERE partition = 0", "beyond"),
        ("UPDATE cursors SET clock = clock + 1 WHERE partition = 0", "its clock is"),
        ("UPDATE cursors SET anchor_timestamp = 1 WHERE partition = 0", "its last record is"),
        ("UPDATE cursors SET earliest = 1 WHERE partition = 0", "it counts"),
        ("DELETE FROM cursors WHERE partition = 0", "the row is missing"),
        ("UPDATE events SET json = '{}' WHERE position = 7", "its JSON is"),
        ("UPDATE events SET object_type = 'x' WHERE position = 7", "its object is not"),
        ("UPDATE events SET offset = 500 WHERE position = 7", "table batches leads to it"),
        ("UPDATE rejections SET problems = '{' WHERE offset = 8", "its problems are unreadable"),
        ("UPDATE duplicates SET of_timestamp = 1 WHERE offset = 37", "holds no such event"),
        (
            "UPDATE claim_groups SET claims = \
             cast(substr(claims, 1, 8) || zeroblob(8) || substr(claims, 17) AS BLOB) WHERE id = 62",
            ": offset 0, which it names, holds no such event",
        ),
        ("UPDATE gaps SET first_offset = 40", "is in the gap"),
        ("DELETE FROM meta WHERE name = 'topic_bits'", "the row is missing"),
    ];
    for (sql, wanted) in changes {
        let (_directory, options) = filled();
        change(&options, sql);
        checksum::update_checksums(&Connection::open(&options.path).unwrap(), |_| ()).unwrap();
        let reader = LogReader::open_damaged(&options.path).unwrap();
        let (_, findings) = check(&reader).unwrap();
        assert!(findings.iter().any(|finding| finding.contains(wanted)), "{sql}: {findings:?}");
    }
}

#[test]
fn events_beside_damaged_ones_are_listed() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let (_directory, options) = filled();
        let reader = LogReader::open(&options.path).unwrap();
        let mut wanted = list_all(&reader, order).unwrap();
        drop(reader);
        change(
            &options,
            "UPDATE events SET object_id = '9' WHERE position = 7; DELETE FROM events WHERE position IN (11, 12, 20)",
        );
        let reader = LogReader::open_damaged(&options.path).unwrap();
        let found = list_all(&reader, order).unwrap();
        wanted.retain(|one| ![7, 11, 12, 20].contains(&one.as_ref().unwrap().position));
        let (sound, damaged): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
        assert_eq!(sound, wanted);
        let mut rows: Vec<_> = damaged.into_iter().map(|one| one.unwrap_err().row).collect();
        if order == Order::NewestFirst {
            rows.reverse();
        }
        assert_eq!(rows, ["position 7", "positions 11 to 12", "position 20"]);

        // The damage is in the object, so the row may match the query.
        let query = ListQuery { object: Some("case/1".to_owned()), order, ..ListQuery::default() };
        let named = list(&reader, &query).unwrap().into_iter().filter_map(Result::err);
        let named: Vec<_> = named.map(|damaged| damaged.row).collect();
        assert!(named.contains(&"position 7".to_owned()), "{named:?}");
    }
}

#[test]
fn the_writer_refuses_a_damaged_row_and_says_what_to_do() {
    let wanted = |error: LogError, named: &str| {
        let message = error.to_string();
        assert!(matches!(error, LogError::Damaged { .. }), "{message}");
        assert!(message.contains(named) && message.contains("restore it from a backup"), "{message}");
    };
    for (sql, named) in CHANGES {
        let (_directory, options) = filled();
        change(&options, sql);
        match (EventLog::open(&options), named) {
            (Err(error), _) => wanted(error, named),
            (Ok(log), named) if named.starts_with("table claim_groups") => {
                let mut log = log;
                let again = valid(at(0, 64, 1064), Some(key(90, 1)));
                wanted(log.append(vec![chunk(vec![again])], &[]).unwrap_err(), named);
            }
            (Ok(log), named) if !["gaps", "meta", "interv"].iter().any(|table| named.contains(table)) => {
                let found = [0, 1].map(|partition| log.recorded(partition, 0..64));
                wanted(found.into_iter().find_map(Result::err).expect(sql), named);
            }
            _ => {}
        }
    }
}

#[test]
fn missing_claims_are_detected() {
    let (_directory, options) = filled();
    change(&options, "DELETE FROM claim_groups WHERE id = 62");
    let mut log = EventLog::open(&options).unwrap();
    let again = valid(at(0, 64, 1064), Some(key(90, 1)));
    let error = log.append(vec![chunk(vec![again])], &[]).unwrap_err().to_string();
    assert!(error.contains("rows of table claim_groups, which has"), "{error}");
}

/// Bits to flip: some of any bytes, and some of bytes that are not zero.
fn flips(bytes: &[u8]) -> Vec<usize> {
    let number = std::env::var("ROT_FLIPS").map_or(300, |text| text.parse().expect("a number"));
    let mut random = fastrand::Rng::with_seed(12);
    let any = (0..number).map(|_| random.usize(..bytes.len() * 8)).collect::<Vec<_>>();
    let used: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let of_used = (0..number).map(|_| used[random.usize(..used.len())] * 8 + random.usize(..8));
    any.into_iter().chain(of_used).collect()
}

#[test]
fn every_flipped_bit_that_changes_an_answer_is_detected() {
    let (directory, options) = filled();
    let bytes = fs::read(&options.path).unwrap();
    let reader = LogReader::open(&options.path).unwrap();
    let listed: Vec<_> =
        list_all(&reader, Order::OldestFirst).unwrap().into_iter().map(Result::unwrap).collect();
    let recorded = [0, 1].map(|partition| reader.recorded(partition, 0..100).unwrap());
    drop(reader);
    let sound = content(&options.path).unwrap();
    let keyed = || vec![chunk(vec![valid(at(0, 64, 1064), Some(key(90, 1)))])];
    let settled = EventLog::open(&options).unwrap().append(keyed(), &[]).unwrap();

    let path = directory.path().join("flipped.db");
    let (mut changed, mut harmless) = (0, 0);
    for bit in flips(&bytes) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        let is_changed = content(&path).as_ref() != Ok(&sound);
        *if is_changed { &mut changed } else { &mut harmless } += 1;

        if let Ok(reader) = LogReader::open_damaged(&path) {
            for order in [Order::OldestFirst, Order::NewestFirst] {
                let Ok(mut found) = list_all(&reader, order) else { continue };
                if order == Order::NewestFirst {
                    found.reverse();
                }
                let is_reported = found.iter().any(Result::is_err) || reader.check_counts().is_err();
                let found: Vec<_> = found.into_iter().filter_map(Result::ok).collect();
                assert!(found.iter().all(|one| listed.contains(one)), "bit {bit}: {found:?}");
                assert!(is_reported || found == listed, "bit {bit}: an event was lost or moved unnoticed");
            }
            for (partition, wanted) in (0..).zip(&recorded) {
                let found = reader.recorded(partition, 0..100).unwrap_or_default();
                assert!(found.iter().all(|one| wanted.contains(one)), "bit {bit}: {found:?}");
            }
            for one in &listed {
                if let Ok(Shown::Event(shown)) = reader.show(one.id) {
                    assert_eq!(shown, *one, "bit {bit}");
                }
            }
            let _ = reader.stats();
            let is_found = check(&reader).map_or(true, |(_, findings)| !findings.is_empty());
            assert!(is_found || !is_changed, "bit {bit}: the check found nothing");
        }
        let written = EventLog::open(&self::options(&path)).and_then(|mut log| log.append(keyed(), &[]));
        if let Ok(written) = written {
            assert_eq!(written, settled, "bit {bit}");
        }
        for suffix in ["-wal", "-shm", "-instance"] {
            let _ = fs::remove_file(with_suffix(&path, suffix));
        }
    }
    println!("{changed} flips changed what the log says, {harmless} did not");
    assert!(changed > 100 && harmless > 10);
}
