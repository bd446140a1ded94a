//! The processor's peak memory while it processes a long backlog at full speed.

use super::{
    Profile,
    kafka::{Backlog, Kafka},
    results::{Memory, Spread},
    subject::{self, Subject},
    support,
};

const RUNS: usize = 3;

pub fn measure(kafka: &Kafka, profile: &Profile) -> Memory {
    let backlog = Backlog::post(kafka, "memory", 3, profile.backlog, support::varied);
    let runs: Vec<_> = (0..RUNS).map(|_| subject::run(Subject::ExactlyOnceFull, &backlog)).collect();
    Memory {
        backlog: profile.backlog,
        runs: RUNS,
        peak: Spread::of(runs.iter().map(|run| run.peak_memory)),
        rate: Spread::of(runs.iter().map(|run| run.rate)).median,
    }
}
