//! Kafka loses the group's offsets: after a clean stop the log knows them, after a kill the processor stops.

use std::collections::BTreeMap;

use super::{
    logs::{self, Noted},
    say, topics, wait_until,
    work::{ALL, Work},
};

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn offsets_lost_after_a_clean_stop_are_known_from_the_log() {
    let mut work = Work::new("known");
    for _ in 0..2 {
        work.post(300);
        let mut instance = work.setup.start("only", &[]);
        work.await_published(&mut instance);
        instance.stop();
        let committed = work.progress.committed_now();
        topics::forget(&work.setup.servers, &work.setup.names.group);
        assert_eq!(work.progress.committed_now(), BTreeMap::new());
        // Killed before there is anything new, it still knows.
        let mut instance = work.setup.start("only", &[]);
        wait_until("the group's offsets", || {
            instance.assert_running();
            work.progress.committed() == Some(committed.clone())
        });
        instance.kill();
        work.post(300);
        let mut instance = work.setup.start("only", &[]);
        work.await_published(&mut instance);
        instance.stop();
    }
    let mut findings = work.findings();
    findings.log(&work.setup.log("only"), &ALL);
    findings.verify(&work.setup, &[&work.setup.log("only")]);
    say!("known: offsets deleted twice, {findings}");
    findings.assert_none();
}

/// The moment of a kill.
#[derive(Clone, Copy)]
enum When {
    /// The log is ahead of what is published.
    AtWork,
    /// All is published. The log notes what is with its next append, so it has not seen the last of it.
    Done,
}

/// A kill meets it at work as a rule.
const MOST_KILLS: u32 = 20;

/// Kills it and takes its offsets away. Gives, for each partition, what the log has seen published, what is
/// published, and what is logged.
fn kill_and_forget(work: &mut Work, when: When) -> BTreeMap<i32, (i64, i64, i64)> {
    let mut kills = 0;
    let (committed, cursors) = loop {
        assert!(kills < MOST_KILLS, "in {kills} kills at work the log was never ahead of what is published");
        kills += 1;
        work.post(3_000);
        let so_far = u64::from(work.posted() - 3_000);
        let mut instance = work.setup.start("only", &["--set", "processor.batch_records=100"]);
        match when {
            When::AtWork => wait_until("progress", || {
                instance.assert_running();
                logs::decided(&instance.log) > so_far + 1_000
                    && work.progress.published() > Some(so_far + 500)
            }),
            When::Done => work.await_published(&mut instance),
        }
        instance.kill();
        // A commit that was under way has come to its end by then.
        wait_until("the member to be missed", || super::group::is_empty(&work.setup));
        let committed = work.progress.committed_now();
        let cursors = logs::cursors(&work.setup.log("only"));
        let is_behind =
            |(partition, (_, logged)): (&i32, &(i64, i64))| committed.get(partition) < Some(logged);
        // A kill at a moment when just everything was out shows nothing.
        if matches!(when, When::Done) || cursors.iter().any(is_behind) {
            break (committed, cursors);
        }
    };
    topics::forget(&work.setup.servers, &work.setup.names.group);
    let all = ALL.map(|partition| {
        let (seen, logged) = cursors.get(&partition).copied().unwrap_or_default();
        let published = committed.get(&partition).copied().unwrap_or(0);
        assert!(
            seen <= published && published <= logged,
            "partition {partition}: {seen} {published} {logged}"
        );
        (partition, (seen, published, logged))
    });
    all.into()
}

/// What it says and does after a kill, and what `--accept` with this flag makes of it.
fn accepted(test: &str, when: When, flag: &str, copies: impl Fn((i64, i64, i64), i64) -> u64) {
    let mut work = Work::new(test);
    let cursors = kill_and_forget(&mut work, when);
    // A partition without any commands yet is no reason to stop; here every one has some.
    for _ in 0..2 {
        let refusal = work.setup.refusal("only", &[]);
        for (partition, (seen, _, logged)) in &cursors {
            let wanted = format!(
                "partition {partition}: the group's committed offset is absent, but this log has seen {seen} \
                 published and was not stopped cleanly, so what is published is unknown (the log goes up to {logged},"
            );
            assert!(
                refusal.contains(&wanted) && refusal.contains("--accept republish"),
                "{wanted}: {refusal}"
            );
        }
        assert_eq!(work.progress.committed_now(), BTreeMap::new(), "nothing was changed");
    }
    let mut instance = work.setup.start("only", &["--accept", flag]);
    work.await_published(&mut instance);
    instance.stop();
    // Once is enough.
    work.post(300);
    let mut instance = work.setup.start("only", &[]);
    work.await_published(&mut instance);
    instance.stop();

    let mut expected = work.expected();
    let places: Vec<_> = expected.commands.keys().copied().collect();
    for place in places {
        let copies = copies(cursors[&place.0], place.1);
        if copies != 1 {
            expected.copies.insert(place, copies);
        }
    }
    let touched = expected.copies.len();
    assert!(touched > 0, "the kill left nothing that was published twice or never: {cursors:?}");
    let mut findings = super::check::Findings::of_output(&work.setup, expected);
    let interventions = ALL.map(|partition| (partition, flag.to_owned())).into();
    let noted = Noted { interventions, ..Noted::default() };
    findings.log_with(&work.setup.log("only"), &ALL, &noted);
    say!("{test}: of {touched} commands the output is not there once, as was accepted, {findings}");
    findings.assert_none();
}

/// Twice is what came out between what the log has seen and the kill, and nothing else.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn offsets_lost_after_a_kill_stop_it_and_can_be_published_again() {
    accepted(
        "republish",
        When::Done,
        "republish",
        |(seen, published, _), offset| {
            if (seen..published).contains(&offset) { 2 } else { 1 }
        },
    );
}

/// Missing is what was in the log and not yet out at the kill, and nothing else.
#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn offsets_lost_after_a_kill_stop_it_and_can_be_accepted_as_published() {
    accepted("skip", When::AtWork, "skip-unpublished", |(_, published, logged), offset| {
        if (published..logged).contains(&offset) { 0 } else { 1 }
    });
}
