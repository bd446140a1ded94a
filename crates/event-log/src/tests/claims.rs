//! Table `claim_groups`: its upgrade, and rows that only a fault could write.

use rusqlite::types::ValueRef;

use super::rot::{content, unpacked_claims};
use super::*;

/// Undoes the upgrade to version 3.
fn downgrade(path: &Path) {
    let elsewhere = tempfile::tempdir().unwrap();
    let of_version_2 = elsewhere.path().join("version-2.db");
    schema::upgrade_to(2, &of_version_2);
    let table: String = Connection::open(of_version_2)
        .unwrap()
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'claims'", [], |row| row.get(0))
        .unwrap();
    let connection = Connection::open(path).unwrap();
    let claims = unpacked_claims(&connection).unwrap();
    connection.execute_batch(&format!("DROP TABLE claim_groups; {table}; PRAGMA user_version = 2")).unwrap();
    for claim in claims {
        let insert = "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, 0)";
        connection.execute(insert, rusqlite::params_from_iter(&claim[1..])).unwrap();
    }
    let count = "UPDATE cursors SET claims = \
                 (SELECT count(*) FROM claims AS c WHERE c.partition = cursors.partition)";
    connection.execute(count, []).unwrap();
    checksum::update_checksums(&connection, |_| ()).unwrap();
}

#[test]
fn an_upgrade_fills_groups_of_claims() {
    let (_directory, options, mut log) = new_log();
    // One claim in a row, so that the upgrade has something to do.
    for (partition, claims) in [(0, 0), (1, 15), (2, 16), (3, 31), (4, 100)] {
        log.append(vec![chunk(vec![rejected(at(partition, 0, 1))])], &[]).unwrap();
        for offset in 1..=claims {
            let keyed = valid(at(partition, offset, 1), Some(key(offset as u8, 1)));
            log.append(vec![chunk(vec![keyed])], &[]).unwrap();
        }
    }
    drop(log);
    downgrade(&options.path);
    let before = content(&options.path).unwrap();

    let mut log = EventLog::open(&options).unwrap();
    assert_eq!(content(&options.path).unwrap(), before);
    let connection = Connection::open(&options.path).unwrap();
    let mut statement =
        connection.prepare("SELECT id >> 48, length(claims) / 64 FROM claim_groups ORDER BY id").unwrap();
    let groups = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let groups: Vec<(i32, i32)> = groups.map(Result::unwrap).collect();
    let mut wanted = vec![(1, 15), (2, 15), (2, 1), (3, 15), (3, 15), (3, 1)];
    wanted.extend([(4, 15); 6]);
    wanted.push((4, 10));
    assert_eq!(groups, wanted);
    assert_eq!(check(&log.reader().unwrap()).unwrap().1, [""; 0]);
    for (partition, offset) in [(1, 15), (2, 15), (2, 16), (3, 20), (4, 50), (4, 100)] {
        let logged = log.cursor(partition).unwrap().unwrap().logged;
        let again = valid(at(partition, logged, 2), Some(key(offset as u8, 1)));
        let settled = log.append(vec![chunk(vec![again])], &[]).unwrap().remove(0).remove(0);
        let of = id(at(partition, offset, 1));
        assert!(matches!(settled.decision, Decision::Duplicate { of: found } if found == of), "{settled:?}");
    }
    assert_eq!(check(&log.reader().unwrap()).unwrap().1, [""; 0]);
}

/// Upgrades the log while it is checked.
struct Upgrading<'a> {
    rows: u64,
    at: u64,
    path: &'a Path,
}

impl CheckReport for Upgrading<'_> {
    fn expect_rows(&mut self, _: u64) {}
    fn row_read(&mut self) {
        self.rows += 1;
        if self.rows == self.at {
            schema::upgrade_to(schema::VERSION as usize, self.path);
        }
    }
    fn finding(&mut self, finding: &LogFinding) -> std::io::Result<()> {
        panic!("{finding}");
    }
}

#[test]
fn a_check_goes_on_if_the_log_is_upgraded_meanwhile() {
    for row in 0.. {
        let (_directory, options, mut log) = new_log();
        let claims = (0..3).map(|offset| valid(at(0, offset, 1), Some(key(offset as u8, 1))));
        log.append(vec![chunk(claims.collect())], &[]).unwrap();
        drop(log);
        downgrade(&options.path);
        let reader = LogReader::open(&options.path).unwrap();
        let mut report = Upgrading { rows: 0, at: row, path: &options.path };
        let checked = reader.check(&mut report).unwrap();
        assert_eq!(checked.findings, 0);
        if report.rows < row {
            assert!(row > 8, "the log has more rows than {row}");
            return;
        }
    }
}

/// One of a row's claims: offset, `last_seen` and the number of its key. It is of its own event.
type Packed = (i64, i64, u8);

/// The id of a row, and its claims.
type Group<'a> = (i64, &'a [Packed]);

/// Replaces the rows of partition 0.
fn set_claims(path: &Path, rows: &[Group<'_>]) {
    let connection = Connection::open(path).unwrap();
    connection.execute("DELETE FROM claim_groups WHERE id >> 48 = 0", []).unwrap();
    for (id, claims) in rows {
        let packed = claims.iter().flat_map(|&(offset, last_seen, number)| {
            let numbers = [offset, offset, 10, last_seen].into_iter().flat_map(i64::to_le_bytes);
            numbers.chain(key(number, 1).hash).chain(key(number, 1).fingerprint).collect::<Vec<_>>()
        });
        let packed: Vec<u8> = packed.collect();
        let values = [ValueRef::Integer(*id), ValueRef::Blob(&packed)];
        checksum::insert_one(&connection, &checksum::CLAIM_GROUPS, &values).unwrap();
    }
    EventLog::update_checksums(&connection);
}

#[test]
fn claims_out_of_order_are_refused_and_reported() {
    let cases: [(&[Group<'_>], &str); 6] = [
        // Two rows have offset 2.
        (
            &[(2, &[(1, 10, 1), (2, 10, 2)]), (4, &[(2, 10, 3), (4, 10, 4)])],
            "id 4: the claim of offset 2: it does not come",
        ),
        (&[(2, &[(1, 10, 1), (2, 9, 2)])], "id 2: its claims do not ascend"),
        (
            &[(2, &[(1, 10, 1), (2, 10, 2)]), (4, &[(3, 9, 3), (4, 10, 4)])],
            "id 4: the claim of offset 3: it does not come",
        ),
        (&[(2, &[(2, 10, 2), (1, 10, 1)])], "id 2: its claims do not ascend"),
        (&[(3, &[(1, 10, 1), (2, 10, 2)])], "id 3: its claims do not ascend"),
        (&[(2, &[(-1, 10, 1), (2, 10, 2)])], "id 2: its claims do not ascend"),
    ];
    for (rows, wanted) in cases {
        let (_directory, options, mut log) = new_log();
        let claims = (1..=4).map(|offset| valid(at(0, offset, 10), Some(key(offset as u8, 1))));
        log.append(vec![chunk(claims.collect())], &[]).unwrap();
        drop(log);
        set_claims(&options.path, rows);
        let (_, findings) = check(&LogReader::open(&options.path).unwrap()).unwrap();
        assert!(findings.iter().any(|found| found.contains(wanted)), "{wanted}: {findings:?}");
        let mut log = EventLog::open(&options).unwrap();
        let again = valid(at(0, 5, 11), Some(key(3, 1)));
        let error = log.append(vec![chunk(vec![again])], &[]).unwrap_err().to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

/// A control record can follow the last offset that an id has room for.
#[test]
fn a_position_beyond_all_ids_deletes_no_claims_of_the_next_partition() {
    const LAST: i64 = (1 << 48) - 1;
    let (_directory, _options, mut log) = new_log();
    log.append(vec![chunk(vec![valid(at(1, 0, 1), Some(key(1, 1)))])], &[]).unwrap();
    log.append(vec![chunk(vec![valid(at(0, LAST - 1, 1), Some(key(1, 1)))])], &[]).unwrap();
    let expiring = valid(at(0, LAST, 1 + 2 * WINDOW_MS), None);
    log.append(vec![Chunk { partition: 0, next_offset: LAST + 2, verdicts: vec![expiring] }], &[]).unwrap();
    assert_eq!(check(&log.reader().unwrap()).unwrap().1, [""; 0]);
    let again = valid(at(1, 1, 1), Some(key(1, 1)));
    let settled = log.append(vec![chunk(vec![again])], &[]).unwrap().remove(0).remove(0);
    assert!(matches!(settled.decision, Decision::Duplicate { .. }), "{settled:?}");
}
