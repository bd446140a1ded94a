//! A disk that changes a row of the log: the processor stops when it needs the row, and continues with a backup.

use std::fs;

use rusqlite::Connection;

use super::{logs, work::Work};

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_damaged_row_stops_it_until_a_backup_is_restored() {
    let mut work = Work::new("rot");
    let (log, backup) = (work.setup.log("only"), work.setup.log("backup"));
    let mut instance = work.setup.start("only", &[]);
    work.post(500);
    work.await_published(&mut instance);
    instance.stop();
    logs::back_up(&log, &backup);

    // Nothing is left of what each key stood for.
    let changed = Connection::open(&log)
        .and_then(|file| file.execute("UPDATE claim_groups SET claims = zeroblob(length(claims))", []))
        .expect("the log");
    assert!(changed > 0, "no command had a key");
    work.post(500);
    let said = work.setup.refusal("only", &[]);
    assert!(said.contains("the event log is damaged: table claim_groups, id "), "{said}");
    assert!(said.contains("restore it from a backup"), "{said}");

    logs::remove(&log);
    fs::copy(&backup, &log).expect("the backup");
    let mut instance = work.setup.start("only", &[]);
    work.await_published(&mut instance);
    instance.stop();
    work.assert_right(&format!("rot: {changed} rows changed,"), &log);
}
