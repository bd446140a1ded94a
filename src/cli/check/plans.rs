//! Whether `run` would start each partition, as it decides that itself.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use super::{Finding, Status};
use crate::{
    cli::output::count,
    event_log::{Cursor, LogError, LogReader},
    kafka::{Settings, SourceError, consumer::GroupConsumer},
    processor::{
        ProcessorError,
        intake::take_up::learn,
        start::{Accept, Facts, plan},
    },
};

const ABOUT: &str = "start";
/// A coordinator that has to be found first does not always answer in the time that one question has.
const PATIENCE: Duration = Duration::from_secs(15);

/// The cursors that the log has; none where there is no log yet.
pub(super) fn cursors(path: &std::path::Path) -> Result<BTreeMap<i32, Cursor>, LogError> {
    let stats = match LogReader::open(path) {
        Err(LogError::Missing { .. }) => return Ok(BTreeMap::new()),
        log => log?.stats()?,
    };
    Ok(stats.partitions.into_iter().map(|found| (found.cursor.partition, found.cursor)).collect())
}

/// One finding for each partition that `run` would refuse, or one for all. The group is asked, and not joined.
///
/// The log's cursors were read before: a processor that runs meanwhile only moves the group's offsets on.
pub(super) fn check(kafka: &Settings, partitions: usize, cursors: &BTreeMap<i32, Cursor>) -> Vec<Finding> {
    let facts = match gather(kafka, partitions, cursors) {
        Ok(facts) => facts,
        Err(error) => {
            let message = format!("whether 'run' would start the partitions is not known: {error}");
            return vec![Finding { status: Status::Warning, about: ABOUT, message }];
        }
    };
    let refused: Vec<_> = facts
        .iter()
        .filter_map(|facts| plan(facts, Accept::default()).err())
        .map(|refusal| Finding { status: Status::Problem, about: ABOUT, message: refusal.to_string() })
        .collect();
    if !refused.is_empty() {
        return refused;
    }
    let message = format!("'run' would start {}", count(facts.len() as u64, "partition"));
    vec![Finding { status: Status::Ok, about: ABOUT, message }]
}

fn gather(
    kafka: &Settings,
    partitions: usize,
    cursors: &BTreeMap<i32, Cursor>,
) -> Result<Vec<Facts>, ProcessorError> {
    let mut source = GroupConsumer::outside(kafka).map_err(ProcessorError::Source)?;
    let numbers: Vec<i32> = (0..i32::try_from(partitions).unwrap_or(i32::MAX)).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let in_time = Instant::now() < deadline;
        match learn(&mut source, &numbers, PATIENCE, |partition| Ok(cursors.get(&partition).cloned())) {
            Err(ProcessorError::Source(SourceError::Retriable(_))) if in_time => {}
            Ok(learned) if learned.facts.len() < numbers.len() && in_time => {}
            Ok(learned) => match learned.unknown.into_iter().next() {
                Some((partition, reason)) => {
                    let reason = format!("partition {partition}: {reason}");
                    return Err(ProcessorError::Source(SourceError::Retriable(reason)));
                }
                None => return Ok(learned.facts),
            },
            Err(error) => return Err(error),
        }
        thread::sleep(Duration::from_millis(200));
    }
}
