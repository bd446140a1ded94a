//! Kills, power loss and a full disk leave the current state or an earlier one, complete.

use super::*;

fn batch(number: i64) -> Vec<Chunk> {
    (0..2)
        .map(|partition| {
            let records = (0..50).map(|record| {
                let at = at(partition, number * 50 + record, number * 3 + record / 10);
                match record % 5 {
                    0 => rejected(at),
                    1 | 2 => valid(at, Some(key((record % 9) as u8, (number % 2) as u8))),
                    _ => valid(at, None),
                }
            });
            chunk(records.collect())
        })
        .collect()
}

/// The cursors and all recorded commands.
fn state(log: &EventLog) -> (Vec<Cursor>, Vec<Recorded>) {
    let cursors = log.cursors().unwrap();
    let recorded =
        cursors.iter().flat_map(|cursor| log.recorded(cursor.partition, 0..cursor.logged).unwrap()).collect();
    (cursors, recorded)
}

#[test]
fn a_killed_log_has_the_state_of_the_last_append_and_continues_the_same() {
    let (_directory, options, mut log) = new_log();
    for number in 0..20 {
        log.append(batch(number), &[(0, number)]).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let copy = crash_copy(&options.path, elsewhere.path());
        let mut copied = EventLog::open(&self::options(&copy)).unwrap();
        assert_eq!(state(&copied), state(&log));
        copied.append(batch(number + 1), &[]).unwrap();
        drop(copied);
        audit(&copy);
    }
    let all = state(&log).1;
    drop(log);
    audit(&options.path);

    let (_directory, options, mut log) = new_log();
    for number in 0..20 {
        log.append(batch(number), &[]).unwrap();
        if number % 3 == 0 {
            drop(log);
            log = EventLog::open(&options).unwrap();
        }
    }
    assert_eq!(state(&log).1, all);
}

#[test]
fn power_loss_leaves_an_earlier_state_that_catches_up() {
    let (_directory, options, mut log) = new_log();
    let mut states = vec![state(&log)];
    for number in 0..6 {
        log.append(batch(number), &[]).unwrap();
        states.push(state(&log));
    }
    let wal = fs::read(with_suffix(&options.path, "-wal")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for part in 0..=60 {
        let elsewhere = tempfile::tempdir().unwrap();
        let copy = crash_copy(&options.path, elsewhere.path());
        fs::write(with_suffix(&copy, "-wal"), &wal[..wal.len() * part / 60]).unwrap();
        let mut copied = EventLog::open(&self::options(&copy)).unwrap();
        let found = state(&copied);
        let after = states.iter().position(|state| *state == found).expect("a state that the log had");
        seen.insert(after);
        for number in after as i64..6 {
            copied.append(batch(number), &[]).unwrap();
        }
        assert_eq!(&state(&copied), states.last().unwrap());
        drop(copied);
        audit(&copy);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (0..=6).collect::<Vec<_>>());
}

#[test]
fn an_append_that_failed_on_a_full_disk_succeeds_when_there_is_room() {
    let (_directory, options, mut log) = new_log();
    log.append(batch(0), &[]).unwrap();
    drop(log);
    let pages = fs::metadata(&options.path).unwrap().len() / u64::from(PAGE_BYTES);
    let tight = LogOptions { max_pages: Some(pages as u32 + 8), ..options.clone() };
    let mut log = EventLog::open(&tight).unwrap();

    let mut number = 1;
    let before = loop {
        let before = state(&log);
        match log.append(batch(number), &[(0, 7)]) {
            Ok(_) => number += 1,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                break before;
            }
        }
        assert!(number < 100, "the disk never filled");
    };
    assert!(number > 1, "the window was not in use before the disk was full");
    assert_eq!(state(&log), before);
    log.append(batch(number), &[]).unwrap_err();
    // The failed appends must not have claimed keys.
    log.connection.pragma_update(None, "max_page_count", 100_000).unwrap();
    while number < 20 {
        log.append(batch(number), &[]).unwrap();
        number += 1;
    }
    let caught_up = state(&log);
    drop(log);
    audit(&options.path);

    let (_directory, _options, mut never_full) = new_log();
    for number in 0..20 {
        never_full.append(batch(number), &[]).unwrap();
    }
    assert_eq!(state(&never_full).1, caught_up.1);
}

#[test]
fn a_failed_append_claims_no_key() {
    let (_directory, _options, mut log) = new_log();
    log.append(vec![chunk(vec![valid(at(0, 0, 1), Some(key(4, 1)))])], &[]).unwrap();
    // Fails after the claims were inserted.
    log.connection
        .execute_batch(
            "CREATE TEMP TRIGGER fail BEFORE INSERT ON rejections BEGIN SELECT raise(ABORT, 'no'); END",
        )
        .unwrap();
    let next = || vec![chunk(vec![valid(at(0, 1, 2), Some(key(1, 1))), rejected(at(0, 2, 2))])];
    let error = log.append(next(), &[]).unwrap_err();
    assert!(matches!(error, LogError::Sqlite { .. }), "{error}");
    log.connection.execute_batch("DROP TRIGGER fail").unwrap();
    let settled = log.append(next(), &[]).unwrap();
    assert_eq!(settled[0][0].position, Some(2), "a command is a duplicate of itself");
    let again = log.append(vec![chunk(vec![valid(at(0, 3, 2), Some(key(4, 1)))])], &[]).unwrap();
    assert_eq!(again[0][0].decision, Decision::Duplicate { of: id(at(0, 0, 1)) });
}

#[test]
fn a_writer_gives_up_waiting_for_the_write_lock() {
    let (_directory, options, mut log) = new_log();
    let other = Connection::open(&options.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    log.connection.busy_timeout(Duration::from_millis(10)).unwrap();
    let error = log.append(batch(0), &[]).unwrap_err();
    assert!(matches!(error, LogError::Busy { .. }), "{error}");
    other.execute_batch("COMMIT").unwrap();
    log.append(batch(0), &[]).unwrap();
}
