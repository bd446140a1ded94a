//! Whether `run` would start each partition, by the rule that it uses itself.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use event_log::Cursor;
use kafka::{Bounds, Settings, SourceError, consumer::GroupConsumer};
use processor::{Accept, Facts, Learned, ProcessorError, learn, plan};

use super::finding::Finding;
use crate::cli::output::count;

/// Of each partition that the log has seen.
pub(super) type Cursors = BTreeMap<i32, Cursor>;

const ABOUT: &str = "start";
/// If the coordinator must be found first, one request's timeout is not always enough.
const PATIENCE: Duration = Duration::from_secs(15);

/// One finding for each partition that `run` would not start, or one for all. It does not join the group.
pub(super) fn check(kafka: &Settings, partitions: usize, cursors: &Cursors, findings: &mut Vec<Finding>) {
    let mut not_learnt = |which: &str, error: &str| {
        // Not repeated if the topics already gave the same error.
        if !findings.iter().any(|other| other.message.contains(error)) {
            let message =
                format!("'run' would not start {which}, as it could not learn what it needs: {error}");
            findings.push(Finding::problem(ABOUT, message));
        }
    };
    match gather(kafka, partitions, cursors) {
        Ok(Learned { facts, unknown }) => {
            for (partition, reason) in &unknown {
                not_learnt(&format!("partition {partition}"), reason);
            }
            if !facts.is_empty() {
                findings.extend(judge(&facts));
            }
        }
        Err(error) => not_learnt("any partition", &error.to_string()),
    }
}

/// The same for a commands topic that `run` would create. Kafka deletes the group's offsets with a topic.
pub(super) fn check_new(kafka: &Settings, cursors: &Cursors, findings: &mut Vec<Finding>) {
    let bounds = Bounds { start: 0, end: 0 };
    let facts = (0..kafka.topics.partitions).map(|partition| {
        let cursor = cursors.get(&partition).copied();
        Facts { partition, cursor, committed: None, bounds, at_anchor: None }
    });
    findings.extend(judge(&facts.collect::<Vec<_>>()));
}

fn judge(facts: &[Facts]) -> Vec<Finding> {
    let refused: Vec<_> = facts
        .iter()
        .filter_map(|facts| plan(facts, Accept::default()).err())
        .map(|refusal| Finding::problem(ABOUT, refusal.to_string()))
        .collect();
    if !refused.is_empty() {
        return refused;
    }
    let partitions = count(facts.len() as u64, "partition");
    vec![Finding::ok(ABOUT, format!("'run' would start {partitions}"))]
}

fn gather(kafka: &Settings, partitions: usize, cursors: &Cursors) -> Result<Learned, ProcessorError> {
    let mut source = GroupConsumer::outside(kafka).map_err(ProcessorError::Source)?;
    let numbers: Vec<i32> = (0..i32::try_from(partitions).unwrap_or(i32::MAX)).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let in_time = Instant::now() < deadline;
        match learn(&mut source, &numbers, PATIENCE, |partition| Ok(cursors.get(&partition).copied())) {
            Err(ProcessorError::Source(SourceError::Retriable(_))) if in_time => {}
            Ok(learned) if learned.facts.len() < numbers.len() && in_time => {}
            learned => return learned,
        }
        thread::sleep(Duration::from_millis(200));
    }
}
