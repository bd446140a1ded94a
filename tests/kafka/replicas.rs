//! Every instance has the whole log: a new one reads it before it takes part, and any of them takes over at once.

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    admin::{LISTEN, address, unready},
    broker, group,
    logs::{self, Noted},
    members::Members,
    process::{Instance, Joining, PATIENCE, Setup},
    said::{ASSIGNED, JOINS},
    say, seed, topics, wait_until,
    work::{ALL, Work},
};

const PER_SECOND: u32 = 500;
/// A log that lacks more has to read before its instance joins.
const FEW: u64 = 20;
const READS: &str = "reading what the group has published";

/// Which offsets of which partition each line about a start names.
fn starts(said: &str, word: &str) -> BTreeMap<i32, i64> {
    let value = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}="))?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<i64>().ok()
    };
    let lines = said.lines().filter(|line| line.contains(&format!(" {word} kafka.partition=")));
    let starts = lines.filter_map(|line| {
        let partition = value(line, "kafka.partition")?;
        Some((i32::try_from(partition).ok()?, value(line, "kafka.offset")?))
    });
    starts.collect()
}

fn has_all(setup: &Setup, instance: &str, of: &BTreeMap<i32, i64>) -> bool {
    let log = logs::cursors(&setup.log(instance));
    of.iter().all(|(partition, next)| log.get(partition).is_some_and(|(_, logged)| logged >= next))
}

/// The summary of `verify`.
fn verify(work: &Work, logs: &[&Path]) -> serde_json::Value {
    let mut command = work.setup.program(&["verify", "--json"]);
    for log in logs {
        command.arg("--log").arg(log);
    }
    let said = String::from_utf8(command.output().expect("the program starts").stdout).expect("text");
    let last: serde_json::Value = said.lines().last().expect("a summary").parse().expect("JSON");
    assert_eq!(last["summary"]["commands"], work.posted(), "{said}");
    last["summary"].clone()
}

/// Whoever takes over begins where the killed one ended, whatever came before.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn the_partitions_of_a_killed_instance_are_taken_over_without_their_history() {
    let setup = Setup::new("takeover", &broker::shared(), 6);
    let mut members = Members::start_all(&setup, &["anna", "bo"], seed("takeover"), PER_SECOND);
    wait_until("both to have partitions", || members.share_all());
    members.advance(3_000);
    let before = members.progress.committed_now();
    wait_until("both logs to have all of that", || {
        members.assert_running();
        ["anna", "bo"].iter().all(|name| has_all(&setup, name, &before))
    });
    let of_anna = group::assignments_now(&setup).remove("anna").expect("her partitions");
    let of_bo = members.running["bo"].stderr().len();
    members.take(0).kill();
    let said = |members: &Members<'_>| members.running["bo"].stderr()[of_bo..].to_owned();
    wait_until("her partitions to be read", || {
        members.assert_running();
        let read = starts(&said(&members), "reading");
        of_anna.iter().all(|partition| read.contains_key(partition))
    });
    members.advance(500);
    let said = said(&members);
    let read = starts(&said, "reading");
    for (partition, offset) in read {
        assert!(offset >= before[&partition], "partition {partition} is read from {offset} again: {said}");
    }
    members.finish("takeover", "1 kill");
}

/// A third instance reads the history before it joins, and is not ready in the meantime.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn an_instance_with_an_empty_log_reads_the_history_before_it_joins() {
    let setup = Setup::new("warm", &broker::shared(), 6);
    setup.join_as(Joining::USUAL.lasting());
    let mut members = Members::start_all(&setup, &["anna", "bo"], seed("warm"), PER_SECOND);
    wait_until("both to have partitions", || members.share_all());
    members.advance(5_000);
    let before = members.progress.committed_now();
    let cold = ["--set", "takeover.max_lag_records=100"];
    let carl = setup.start("carl", &[&LISTEN[..], &cold].concat());
    let lacks = || -> i64 {
        let logged = logs::cursors(&carl.log);
        let logged = |partition| logged.get(partition).map_or(0, |(_, logged)| *logged);
        before.iter().map(|(partition, next)| next - logged(partition).min(*next)).sum()
    };
    let mut warming = 0;
    wait_until("the third to have partitions", || {
        match address(&carl).map(|_| unready(&carl)) {
            Some(Some(answer)) => warming += u32::from(answer.contains("\r\n\r\nwarming: ")),
            // What it says may be written later than that.
            Some(None) => assert!(lacks() <= 100, "it is ready and lacks {} records of the history", lacks()),
            None => {}
        }
        carl.stderr().contains(ASSIGNED)
    });
    assert!(warming > 0, "it never said that it was warming up");
    assert!(
        lacks() <= 100,
        "it joined and lacked {} records that were published before it was started",
        lacks()
    );
    let said = carl.stderr();
    let (reading, joining) = (said.find(READS), said.find(JOINS));
    assert!(reading.is_some() && reading < joining, "{said}");
    members.running.insert("carl", carl);
    members.advance(1_000);
    members.finish("warm", "a third instance with an empty log");
}

/// One alone, and two that are started at once, have nobody to wait for, whatever the topic holds.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_new_group_waits_for_nobody() {
    let mut work = Work::new("alone");
    work.post(3_000);
    let start = |name: &str| work.setup.start(name, &["--set", "takeover.max_lag_records=0"]);
    let mut instances = [start("anna"), start("bo")];
    let progress = &work.progress;
    progress.await_published(3_000, 2 * PATIENCE, || instances.iter_mut().for_each(Instance::assert_running));
    let complete = |name: &str| has_all(&work.setup, name, &progress.committed_now());
    wait_until("both logs to be complete", || complete("anna") && complete("bo"));
    let logs = instances.map(|instance| {
        let log = instance.log.clone();
        instance.stop();
        log
    });
    let mut findings = work.findings();
    for log in &logs {
        findings.log(log, &ALL);
        findings.verify(&work.setup, &[log]);
    }
    say!("alone: {findings}");
    findings.assert_none();
}

/// The brokers do not say whether a group of the new protocol has members. One alone that lost its log reads what the group has
/// published, and joins.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_lone_member_of_the_new_protocol_waits_for_nobody() {
    let mut work = Work::new("new-alone");
    work.setup.join_as(Joining::NEW);
    let start = |work: &Work| work.setup.start("anna", &["--set", "takeover.max_lag_records=0"]);
    let mut anna = start(&work);
    work.post(1_000);
    work.await_published(&mut anna);
    let log = anna.log.clone();
    anna.stop();
    logs::remove(&log);
    let mut anna = start(&work);
    work.post(1_000);
    work.await_published(&mut anna);
    anna.stop();
    work.assert_right("new-alone:", &log);
}

/// As docs/operations.md says, and again until enough commands arrive meanwhile: a short log is copied in a moment.
fn back_up_under_load(setup: &Setup, log: &Path, copy: &Path) {
    let mut made = 0;
    wait_until("a backup that the log outgrows while it is made", || {
        // That of an earlier attempt.
        logs::remove(copy);
        let mut backup = setup.program(&["log", "backup"]);
        let backup = backup.arg("--log-file").arg(log).arg(copy).output().expect("the program starts");
        assert!(backup.status.success(), "{}", String::from_utf8_lossy(&backup.stderr));
        made += 1;
        logs::decided(log) > logs::decided(copy) + FEW
    });
    say!("replica: {made} backups, and the log has outgrown the last one");
}

/// The topic retains less than the group has published: a new instance either notes the gap, or begins with another's log.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn a_new_instance_begins_with_what_is_retained_or_with_the_log_of_another() {
    let mut work = Work::new("replica");
    work.setup.join_as(Joining::USUAL.lasting());
    let mut anna = work.setup.start("anna", &[]);
    work.post(2_000);
    work.await_published(&mut anna);
    work.remember();
    let start = work.progress.committed_now();
    topics::delete_records(&work.setup.servers, &work.setup.names.commands, &start);

    // None of the commands that follow repeats one that only some logs have. They come until all three are in the group.
    let posting = work.post_steadily_apart(PER_SECOND);
    let bo = work.setup.log("bo");
    back_up_under_load(&work.setup, &anna.log, &bo);
    let lag = format!("takeover.max_lag_records={FEW}");
    let instances = ["bo", "carl"].map(|name| work.setup.start(name, &["--set", &lag]));
    wait_until("both to be warm, and to have partitions", || {
        instances.iter().all(|instance| {
            let said = instance.stderr();
            said.contains(JOINS) && said.contains(ASSIGNED)
        })
    });
    work.end(posting);
    work.await_published(&mut anna);
    let end = work.progress.committed_now();
    wait_until("all logs to have the rest", || {
        ["anna", "bo", "carl"].iter().all(|name| has_all(&work.setup, name, &end))
    });
    let ids = ["anna", "bo", "carl"]
        .map(|name| fs::read_to_string(logs::beside(&work.setup.log(name), "-instance")).expect("its id"));
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
    let carl = work.setup.log("carl");
    instances.into_iter().for_each(|instance| drop(instance.stop()));
    anna.stop();
    let anna = work.setup.log("anna");
    let mut findings = work.findings();
    findings.log(&anna, &ALL);
    findings.log(&bo, &ALL);
    let gaps = start.iter().map(|(&partition, &next)| (partition, 0, next)).collect();
    findings.log_with(&carl, &ALL, &Noted { gaps, ..Noted::default() });
    for logs in [&[&*anna][..], &[&bo], &[&anna, &bo, &carl]] {
        // It can't decide the deleted commands again, and trusts a log that has them.
        assert_eq!(verify(&work, logs)["deviations"], 0, "{logs:?}");
    }
    say!("replica: {findings}");
    findings.assert_all_kinds();
    findings.assert_none();
}
