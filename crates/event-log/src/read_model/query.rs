//! Finds events by object and time.

use std::ops::{ControlFlow, RangeInclusive};

use crate::checksum::DamagedRow;
use crate::error::LogError;
use crate::read_model::model::{ReadModel, Run};
use crate::read_model::{ReadModelError, entries};
use crate::reader::{ListQuery, Listed, LogReader, Order};

impl ReadModel {
    /// Returns what [`LogReader::list`] returns, sooner. Reads events that the model does not cover yet from the log.
    pub fn list<E: From<ReadModelError> + From<LogError>>(
        &self,
        log: &LogReader,
        query: &ListQuery,
        mut each: impl FnMut(Result<Listed, DamagedRow>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        // The follower may merge runs meanwhile.
        let _snapshot = self.snapshot()?;
        let last = log.last_position()?;
        let runs = self.runs(log).unwrap_or_else(|error| {
            tracing::warn!(%error, "reading the log instead of the read model");
            Vec::new()
        });
        let mut segments = segments(query, &runs, last);
        if query.order == Order::NewestFirst {
            segments.reverse();
        }
        let hash = query.object.as_deref().map(entries::hash_of_object);
        let mut left = query.limit.unwrap_or(u64::MAX);
        for (positions, run) in segments {
            let picked = run.zip(hash).and_then(|(run, hash)| {
                let picked = self.positions(&run, hash);
                picked
                    .inspect_err(|error| tracing::warn!(%error, "reading the log instead of the read model"))
                    .ok()
            });
            let flow = match picked {
                Some(mut positions) => {
                    if query.order == Order::NewestFirst {
                        positions.reverse();
                    }
                    log.pick(query, &positions, &mut left, &mut each)?
                }
                None => log.scan(query, positions, &mut left, &mut each)?,
            };
            if flow.is_break() || left == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// The positions to search, in order: those of the runs that overlap the time, then those that no run covers.
fn segments(query: &ListQuery, runs: &[Run], last: i64) -> Vec<(RangeInclusive<i64>, Option<Run>)> {
    let is_in_time = |run: &&Run| {
        query.since.is_none_or(|since| run.latest >= since)
            && query.until.is_none_or(|until| run.earliest < until)
    };
    let covered = runs.last().map_or(0, |run| run.last_position);
    let uncovered = (covered < last).then_some((covered + 1..=last, None));
    let of_run = |run: &Run| (run.first_position..=run.last_position, Some(*run));
    runs.iter().filter(is_in_time).map(of_run).chain(uncovered).collect()
}
