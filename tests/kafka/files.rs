//! The log under another name, locked by another program, or removed while in use: nothing is published that is not in a
//! log.

use std::fs;

use rusqlite::Connection;

use super::{logs, wait_until, work::Work};

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_linked_locked_or_removed_log_loses_nothing() {
    let mut work = Work::new("files");
    let mut only = work.setup.start("only", &[]);
    work.post(300);
    work.await_published(&mut only);

    let second = work.setup.log("second");
    fs::hard_link(&only.log, &second).expect("a hard link");
    let refusal = work.setup.refusal("second", &[]);
    assert!(refusal.contains("locked: another process runs on the event log"), "{refusal}");
    fs::remove_file(&second).expect("the link");

    let other = Connection::open(&only.log).expect("the log");
    other.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    work.post(300);
    wait_until("it to wait", || {
        only.assert_running();
        only.stderr().contains("has held the write lock on the database")
    });
    other.execute_batch("COMMIT").expect("an empty transaction");
    drop(other);
    work.await_published(&mut only);

    // Taken away in the middle of the work.
    let log = only.log.clone();
    work.post(300);
    logs::remove(&log);
    let refusal = only.refusal();
    assert!(refusal.contains("removed or replaced while the event log was open"), "{refusal}");

    let mut again = work.setup.start("only", &[]);
    work.post(300);
    work.await_published(&mut again);
    wait_until("the log to be whole", || logs::decided(&log) == u64::from(work.posted()));
    again.stop();

    work.assert_right("files:", &log);
}
