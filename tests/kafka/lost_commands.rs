//! Commands that left the topic while nothing ran. Deleted by hand: that is the same as by retention, and sooner.

use std::collections::BTreeMap;

use super::{
    expected::Place,
    logs::{self, Noted},
    say, topics,
    work::{ALL, Work},
};

/// Decides, publishes and stops.
fn run(work: &mut Work, name: &str, more: &[&str]) {
    let mut instance = work.setup.start(name, more);
    work.await_published(&mut instance);
    instance.stop();
}

fn noted(flag: Option<&str>, gaps: impl IntoIterator<Item = (i32, i64, i64)>) -> Noted {
    let interventions = ALL.iter().flat_map(|&partition| flag.map(|flag| (partition, flag.to_owned())));
    Noted { gaps: gaps.into_iter().collect(), interventions: interventions.collect() }
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn commands_deleted_undecided_stop_it_until_that_is_accepted() {
    let mut work = Work::new("undecided");
    work.post(600);
    run(&mut work, "only", &[]);
    let published = work.progress.committed_now();
    work.post(600);
    work.remember();
    // About half of the new ones.
    let start: BTreeMap<i32, i64> = published
        .iter()
        .map(|(&partition, &offset)| {
            let new = work.places().filter(|place| place.0 == partition && place.1 >= offset).count();
            (partition, offset + i64::try_from(new / 2).expect("a few"))
        })
        .collect();
    topics::delete_records(&work.setup.servers, &work.setup.names.commands, &start);
    let lost: Vec<Place> = work
        .places()
        .filter(|(partition, offset)| (published[partition]..start[partition]).contains(offset))
        .collect();
    let lost_count = lost.len();
    work.lose(lost);

    for _ in 0..2 {
        let refusal = work.setup.refusal("only", &[]);
        for partition in ALL {
            let (published, start) = (published[&partition], start[&partition]);
            let wanted = format!(
                "partition {partition}: commands were deleted before they were decided: the next one to publish \
                 is {published}, and the topic holds {start} to "
            );
            assert!(refusal.contains(&wanted) && refusal.contains("--accept lost-commands"), "{refusal}");
        }
        assert_eq!(work.progress.committed_now(), published, "nothing was changed");
    }
    run(&mut work, "only", &["--accept", "lost-commands"]);
    // Once is enough.
    work.post(300);
    run(&mut work, "only", &[]);

    let mut findings = work.findings();
    let gaps = ALL.map(|partition| (partition, published[&partition], start[&partition]));
    findings.log_with(&work.setup.log("only"), &ALL, &noted(Some("lost-commands"), gaps));
    say!("undecided: {lost_count} commands lost, {findings}");
    findings.assert_none();
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn commands_deleted_when_they_were_published_are_a_gap_at_most() {
    let mut work = Work::new("published");
    work.post(600);
    run(&mut work, "only", &[]);
    let start = work.progress.committed_now();
    // Idempotency keys of what is deleted are not known to a new log, so none is used again.
    work.post_apart(300);
    let mut instance = work.setup.start("only", &[]);
    work.await_published(&mut instance);
    instance.kill();
    work.remember();
    topics::delete_records(&work.setup.servers, &work.setup.names.commands, &start);

    // A log that has them lacks nothing.
    work.post(300);
    run(&mut work, "only", &[]);
    // A new log continues after them, and says so.
    let mut other = work.setup.start("other", &[]);
    work.post(300);
    work.await_published(&mut other);
    super::wait_until("the new log to be whole", || {
        let in_gaps = u64::try_from(start.values().sum::<i64>()).expect("a count");
        logs::decided(&other.log) + in_gaps == u64::from(work.posted())
    });
    let said = other.stop();
    for (partition, start) in &start {
        let wanted = format!(
            "this log will never hold these commands kafka.partition={partition} gap.first_offset=0 \
             gap.next_offset={start}"
        );
        assert!(said.contains(&wanted), "{wanted}: {said}");
    }
    // Then the first one has the rest as well.
    let only = work.setup.start("only", &[]);
    super::wait_until("the old log to be whole", || logs::decided(&only.log) == u64::from(work.posted()));
    only.stop();

    let mut findings = work.findings();
    findings.log(&work.setup.log("only"), &ALL);
    let gaps = start.iter().map(|(&partition, &start)| (partition, 0, start));
    findings.log_with(&work.setup.log("other"), &ALL, &noted(None, gaps));
    say!("published: {} commands in gaps, {findings}", start.values().sum::<i64>());
    findings.assert_none();
}
