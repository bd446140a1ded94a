//! Whatever value a column has, every read of the log ends without a panic.

use contract::PartitionOffset;
use rusqlite::types::Value;

use super::*;

const SCHEMA: &str = "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = ";

/// Sets a column to a value that the table's definition may forbid, as damage can.
fn set(path: &Path, (table, column): (&str, &str), row: u32, value: &Value) -> bool {
    let connection = Connection::open(path).unwrap();
    let sql: String = connection
        .query_row("SELECT sql FROM sqlite_schema WHERE name = ?1", [table], |row| row.get(0))
        .unwrap();
    let redefine = |sql: &str| {
        let sql = sql.replace('\'', "''");
        connection
            .execute_batch(&format!("{SCHEMA}'{sql}' WHERE name = '{table}'; PRAGMA writable_schema = RESET"))
            .unwrap();
    };
    let lax = sql.replace(" STRICT, WITHOUT", " WITHOUT").replace(" STRICT", "").replace("NOT NULL", "");
    redefine(&lax);
    let key = checksum::tables(schema::user_version(&connection).unwrap())
        .into_iter()
        .find(|known| known.name == table)
        .unwrap();
    let names = key.columns[..key.key].join(", ");
    // It fails if another row has that key, or if the column is a rowid and the value no number.
    let changed = connection.execute(
        &format!(
            "UPDATE {table} SET {column} = ?1 WHERE ({names}) = (SELECT {names} FROM {table} ORDER BY {names} LIMIT 1 \
             OFFSET ?2 % (SELECT max(count(*), 1) FROM {table}))"
        ),
        (value, row),
    );
    redefine(&sql);
    changed == Ok(1)
}

fn read_everything(path: &Path) {
    let Ok(reader) = LogReader::open_damaged(path) else { return };
    let _ = (reader.check_counts(), reader.stats(), reader.last_position());
    let mut ids = Vec::new();
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for one in list_all(&reader, order).into_iter().flatten().flatten() {
            ids.push(one.id);
        }
        let query = ListQuery {
            object: Some("case/1".to_owned()),
            since: Some(i64::MIN),
            until: Some(i64::MAX),
            order,
            limit: Some(3),
        };
        let _ = list(&reader, &query);
    }
    for id in ids {
        let _ = reader.show(id);
    }
    for partition in [0, 1, i32::MAX] {
        let _ = reader.logged(partition);
        for offset in (0..70).step_by(3).chain([i64::MIN, -1, i64::MAX - 1, i64::MAX]) {
            let _ =
                (reader.show_at(PartitionOffset { partition, offset }), reader.refused(partition, offset));
        }
        for offsets in [i64::MIN..i64::MAX, 0..100, 20..30, i64::MAX - 1..i64::MAX] {
            let _ = reader.recorded(partition, offsets);
        }
    }
    for position in [i64::MIN, 0, 1, 7, i64::MAX] {
        let _ = (reader.record_at(position), reader.objects(position..=position, |_, _, _, _| ()));
    }
    let _ = reader.rows(|_| Ok::<_, LogError>(ControlFlow::Continue(())));
    let _ = check(&reader);
}

#[test]
fn readers_return_whatever_value_a_column_has() {
    let (directory, options) = filled();
    let unchecked = bytes_of_version_1();
    let sealed = fs::read(&options.path).unwrap();
    let path = directory.path().join("changed.db");
    let values = [
        Value::Integer(i64::MIN),
        Value::Integer(i64::MAX),
        Value::Integer(-1),
        Value::Integer(0),
        Value::Integer(1 << 32),
        Value::Null,
        Value::Text("}".to_owned()),
        Value::Blob(vec![255; 16]),
        Value::Real(1e300),
    ];
    let mut random = fastrand::Rng::with_seed(7);
    let mut changed = 0;
    // Without checksums, and with the checksums of the changed rows.
    for (bytes, version) in [(&unchecked, 1), (&sealed, schema::VERSION)] {
        let is_sealed = version > 1;
        for table in checksum::tables(version) {
            for &column in table.columns {
                for value in &values {
                    let row = random.u32(..1000);
                    fs::write(&path, bytes).unwrap();
                    if column == "claims" && !is_sealed || !set(&path, (table.name, column), row, value) {
                        continue;
                    }
                    // SQLite refuses to update a row with a forbidden value.
                    if is_sealed
                        && checksum::update_checksums(&Connection::open(&path).unwrap(), |_| ()).is_err()
                    {
                        continue;
                    }
                    changed += 1;
                    read_everything(&path);
                    for suffix in ["-wal", "-shm"] {
                        let _ = fs::remove_file(with_suffix(&path, suffix));
                    }
                }
            }
        }
    }
    assert!(changed > 400, "{changed}");
}

#[test]
fn a_damaged_last_position_is_reported_with_the_missing_range() {
    for version in [1, 3] {
        for position in [4096 * 3, 7_680_779, 1 << 62, i64::MAX] {
            let (_directory, options) = if version == 1 { version_1() } else { filled() };
            let events =
                list_all(&LogReader::open(&options.path).unwrap(), Order::OldestFirst).unwrap().len();
            change(
                &options,
                &format!(
                    "UPDATE events SET position = {position} WHERE position = (SELECT max(position) FROM events)"
                ),
            );
            let reader = LogReader::open_damaged(&options.path).unwrap();
            reader.check_counts().unwrap_err();
            for order in [Order::OldestFirst, Order::NewestFirst] {
                let (sound, damaged): (Vec<_>, Vec<_>) =
                    list_all(&reader, order).unwrap().into_iter().partition(Result::is_ok);
                let mut rows: Vec<_> = damaged.into_iter().map(|one| one.unwrap_err().row).collect();
                rows.sort();
                let missing = format!("positions {events} to {}", position - 1);
                // A row without a checksum is taken as sound.
                match version {
                    1 => assert_eq!((sound.len(), rows), (events, vec![missing])),
                    _ => {
                        let wanted = vec![format!("position {position}"), missing];
                        assert_eq!((sound.len(), rows), (events - 1, wanted));
                    }
                }
            }
            let (_, findings) = check(&reader).unwrap();
            let missing = format!("table events, positions {events} to {}: the row is missing", position - 1);
            assert!(findings.contains(&missing), "{findings:?}");
        }
    }
}

#[test]
fn an_event_outside_its_batch_is_reported() {
    let changes = [
        "UPDATE events SET offset = 0 WHERE position = 1",
        "UPDATE events SET offset = 9223372036854775807 WHERE position = 1",
        "UPDATE events SET offset = -9223372036854775808 WHERE position = 1",
        "UPDATE events SET partition = 7 WHERE position = 1",
        "DELETE FROM events WHERE position = 1",
    ];
    for sql in changes {
        let (_directory, options) = version_1();
        let reader = LogReader::open(&options.path).unwrap();
        let first = list_all(&reader, Order::OldestFirst).unwrap().remove(0).unwrap().coordinates;
        drop(reader);
        change(&options, sql);
        let reader = LogReader::open_damaged(&options.path).unwrap();
        let place = PartitionOffset { partition: first.partition, offset: first.offset };
        for offsets in [first.offset..first.offset + 1, 0..100] {
            let error = reader.recorded(first.partition, offsets).unwrap_err().to_string();
            assert!(error.contains("table events, position 1: "), "{sql}: {error}");
        }
        let error = reader.show_at(place).unwrap_err().to_string();
        assert!(error.contains("table events, position 1: "), "{sql}: {error}");
        assert!(!check(&reader).unwrap().1.is_empty(), "{sql}");
    }
}

#[test]
fn an_offset_beyond_the_cursor_is_not_appended_yet() {
    let (_directory, options) = filled();
    let reader = LogReader::open(&options.path).unwrap();
    let shown = reader.show_at(PartitionOffset { partition: 0, offset: i64::MAX }).unwrap();
    let Shown::Absent(Absence::NotYet { logged, .. }) = shown else { panic!("{shown:?}") };
    assert_eq!(Some(logged), reader.logged(0).unwrap());
    assert_eq!(reader.refused(0, i64::MAX).unwrap(), None);
}

#[test]
fn a_damaged_log_of_version_1_is_not_upgraded() {
    for sql in [
        "UPDATE events SET offset = 0 WHERE position = 1",
        "UPDATE events SET json = '{}' WHERE position = 2",
        "UPDATE cursors SET clock = clock + 1 WHERE partition = 1",
        "DELETE FROM batches WHERE first_position = 1",
    ] {
        let (_directory, options) = version_1();
        change(&options, sql);
        let before = fs::read(&options.path).unwrap();
        let wanted = check(&LogReader::open(&options.path).unwrap()).unwrap().1;
        let error = EventLog::open(&options).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, LogError::Damaged { .. }), "{sql}: {message}");
        assert!(message.contains(&format!("has {} findings", wanted.len())), "{sql}: {message}");
        assert!(message.contains(&wanted[0]) && message.contains("log check --log-file"), "{sql}: {message}");
        assert_eq!(fs::read(&options.path).unwrap(), before, "{sql}");
    }
}

#[test]
fn rows_between_long_missing_ranges_are_listed() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let (_directory, options) = version_1();
        let wanted = list_all(&LogReader::open(&options.path).unwrap(), order).unwrap().len();
        change(
            &options,
            "UPDATE events SET position = position * 1000003 WHERE position > 20 AND position % 3 = 0; \
             UPDATE events SET position = position + 4000000000 WHERE position BETWEEN 40 AND 1000",
        );
        let reader = LogReader::open_damaged(&options.path).unwrap();
        let listed = list_all(&reader, order).unwrap();
        assert_eq!(listed.into_iter().filter_map(Result::ok).count(), wanted);
    }
}
