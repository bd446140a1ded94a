//! A run without faults, as the baseline for the other tests.

use super::{
    broker,
    check::Findings,
    load::Load,
    process::{PATIENCE, Setup},
    progress::Progress,
    say, seed,
};

const APPENDED_AGAIN: u32 = 200;

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn commands_become_what_the_contract_says() {
    let load = Load { seed: seed("first"), commands: 20_000 };
    let setup = Setup::new("first", &broker::shared(), 6);
    let mut instance = setup.start("only", &[]);
    load.post(&setup.servers, &setup.names.commands, 0..load.commands).finish();
    // As a producer may when a broker fails.
    load.post(&setup.servers, &setup.names.commands, 0..APPENDED_AGAIN).finish();
    let progress = Progress::of(&setup);
    progress.await_published(progress.appended(), 2 * PATIENCE, || instance.assert_running());
    let log = instance.log.clone();
    instance.stop();
    let mut findings = Findings::of_topics(&setup, load);
    findings.log(&log, &[0, 1, 2, 3, 4, 5]);
    findings.verify(&setup, &[&log]);
    say!("first: {findings}");
    assert_eq!(findings.expected.appended_again, u64::from(APPENDED_AGAIN));
    findings.assert_all_kinds();
    findings.assert_none();
}
