//! The processor, killed repeatedly at random moments, neither loses nor duplicates anything.

use std::{thread, time::Duration};

use fastrand::Rng;

use super::{
    broker,
    check::Findings,
    load::Load,
    logs,
    process::{PATIENCE, Setup},
    progress::Progress,
    say, seed, wait_until,
};

const COMMANDS: u32 = 200_000;
const KILLS: u32 = 55;
/// Commands that wait in the topic at most, so that the load lasts as long as the kills.
const AHEAD: u32 = 10_000;

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn killed_at_random_moments() {
    let load = Load { seed: seed("kills"), commands: COMMANDS };
    let mut random = Rng::with_seed(load.seed);
    let setup = Setup::new("kills", &broker::shared(), 6);
    let log = setup.log("only");
    let posting = load.post(&setup.servers, &setup.names.commands, 0..load.commands);
    posting.up_to(AHEAD);
    let decided = || u32::try_from(logs::decided(&log)).expect("a count");
    for kill in 0..KILLS {
        // Small batches are many transactions, large ones long transactions.
        let batch = *random.choice([200, 1_000, 10_000].iter()).expect("some");
        let mut instance = setup.start("only", &["--set", &format!("processor.batch_records={batch}")]);
        // One in five dies before it is at work; the others some way on, from where it is sure to be at work.
        if random.u8(0..5) > 0 {
            let share = load.commands.saturating_sub(decided()) / (KILLS - kill);
            let goal = decided() + random.u32(1..=2 * share.max(1));
            let goal = goal.min(load.commands);
            wait_until("progress", || {
                instance.assert_running();
                posting.up_to(decided() + AHEAD);
                decided() >= goal
            });
        }
        thread::sleep(Duration::from_millis(random.u64(0..300)));
        instance.kill();
    }
    posting.up_to(u32::MAX);
    let mut instance = setup.start("only", &[]);
    posting.finish();
    let progress = Progress::of(&setup);
    progress.await_published(load.commands.into(), 2 * PATIENCE, || instance.assert_running());
    instance.stop();
    let mut findings = Findings::of_topics(&setup, load);
    findings.log(&log, &[0, 1, 2, 3, 4, 5]);
    findings.verify(&setup, &[&log]);
    say!("kills: {KILLS} kills, {findings}");
    findings.assert_all_kinds();
    findings.assert_none();
}
