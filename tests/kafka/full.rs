//! No disk space for the log: consumption is paused, the processor leaves the group, and it resumes when there is space.
//!
//! Mounting a small file system needs rights that a test may not have. So the test limits the size of the process's files
//! (RLIMIT_FSIZE): the log's writes then fail as on a full disk.

use std::{thread, time::Duration};

use super::{
    admin::{self, LISTEN, metric},
    group, logs,
    process::Instance,
    say, wait_until,
    work::{ALL, Work},
};

/// Less than what the commands of a part need.
const SMALL: u64 = 1 << 20;
const PART: u32 = 6_000;

const FULL: &str = "the disk is full";

/// How often it has said so.
fn times_full(instance: &Instance) -> usize {
    instance.stderr().matches(FULL).count()
}

/// Waits until it says so once more than it had `before`.
#[track_caller]
fn await_full(instance: &mut Instance, before: usize) {
    wait_until(FULL, || {
        instance.assert_running();
        times_full(instance) > before
    });
}

fn held_by(work: &Work) -> Vec<String> {
    group::assignments(&work.setup).into_keys().collect()
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_full_disk_is_left_to_others_and_outlasted() {
    let mut work = Work::new("full");
    let mut small = work.setup.start_confined("small", SMALL, &LISTEN);
    work.post(100);
    work.await_published(&mut small);
    work.post(PART);
    await_full(&mut small, 0);

    // It takes in nothing, and says why.
    wait_until("it to leave the group", || group::is_empty(&work.setup));
    let before = (work.progress.committed_now(), logs::decided(&small.log));
    thread::sleep(Duration::from_secs(1));
    assert_eq!((work.progress.committed_now(), logs::decided(&small.log)), before);
    assert!(before.1 < u64::from(work.posted()), "there was room for all of it");
    let address = format!("admin.listen={}", admin::address(&small).expect("an address"));
    let check = work.setup.program(&["check", "--ready", "--set", &address]).output().expect("it runs");
    let said = [check.stdout, check.stderr].concat();
    assert!(String::from_utf8_lossy(&said).contains(FULL), "{}", String::from_utf8_lossy(&said));
    assert_eq!(check.status.code(), Some(1));
    // What it last knew stays to be seen, with its age.
    let (published, series) = metric(&small, "published_offset");
    assert!(published <= before.0.values().sum() && series == ALL.len(), "{published} in {series}");
    assert_eq!(metric(&small, "lag_records").1, ALL.len());
    let age = || metric(&small, "end_offset_age_seconds");
    let earlier = age();
    assert_eq!(earlier.1, ALL.len());
    wait_until("the age to grow", || age() > earlier);

    // One that has room does the work meanwhile.
    let mut roomy = work.setup.start("roomy", &[]);
    work.await_published(&mut roomy);
    wait_until("nobody else to share", || held_by(&work) == ["roomy"]);

    // With space it resumes on its own, and gets its share of the partitions again.
    small.confine(None);
    wait_until("both to share", || {
        small.assert_running();
        held_by(&work) == ["roomy", "small"]
    });
    work.post(500);
    work.await_published(&mut roomy);
    roomy.stop();
    work.post(500);
    work.await_published(&mut small);

    // Full once more, it is stopped in order, and started without room, which ends nothing either.
    let before = times_full(&small);
    small.confine(Some(SMALL));
    work.post(PART);
    await_full(&mut small, before);
    small.stop();
    let mut small = work.setup.start_confined("small", SMALL, &[]);
    await_full(&mut small, 0);
    small.kill();
    let mut small = work.setup.start("small", &[]);
    work.await_published(&mut small);
    wait_until("the log to be whole", || logs::decided(&small.log) == u64::from(work.posted()));
    let log = small.log.clone();
    small.stop();

    let mut findings = work.findings();
    findings.log(&log, &ALL);
    findings.log(&work.setup.log("roomy"), &[]);
    findings.verify(&work.setup, &[&log, &work.setup.log("roomy")]);
    say!("full: 3 times full, {findings}");
    findings.assert_all_kinds();
    findings.assert_none();
}
