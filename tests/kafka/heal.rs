//! A log that lost its end, or all of its content, heals from the topic, and no notification is published twice.

use std::{fs, path::PathBuf};

use super::{
    logs, say, wait_until,
    work::{ALL, Work},
};

/// Posts some more, waits until they are out and the log has everything, and keeps a copy of it.
fn step(work: &mut Work, name: &str) -> PathBuf {
    let mut instance = work.setup.start("only", &[]);
    work.post(500);
    work.await_published(&mut instance);
    let log = instance.log.clone();
    wait_until("the log to be whole", || logs::decided(&log) == u64::from(work.posted()));
    let copy = work.setup.log(name);
    logs::back_up(&log, &copy);
    // The next one begins after an end in order, and after another one.
    if work.posted().is_multiple_of(1_000) {
        instance.stop();
    } else {
        instance.kill();
    }
    copy
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_restored_or_removed_log_heals_from_the_topic() {
    let mut work = Work::new("heal");
    let log = work.setup.log("only");
    let early = step(&mut work, "early");
    let mut copies = Vec::new();
    copies.push(step(&mut work, "before"));
    let decided = logs::decided(&log);

    // As docs/operations.md says that a backup is put back; twice, after a stop and after a kill.
    for name in ["put-back", "put-back-again"] {
        logs::remove(&log);
        fs::copy(&early, &log).expect("the backup");
        assert!(logs::decided(&log) < decided, "the backup is older");
        copies.push(step(&mut work, name));
    }
    // The instance stays the same, as long as its own file is there.
    logs::remove(&log);
    copies.push(step(&mut work, "removed"));
    logs::remove(&log);
    fs::remove_file(logs::beside(&log, "-instance")).expect("the instance's file");
    copies.push(step(&mut work, "removed-altogether"));

    let mut findings = work.findings();
    findings.log(&log, &ALL);
    for copy in copies {
        findings.log(&copy, &[]);
    }
    findings.verify(&work.setup, &[&log]);
    say!("heal: put back twice, removed twice, {findings}");
    findings.assert_all_kinds();
    findings.assert_none();
}
