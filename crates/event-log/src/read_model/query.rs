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
        each: impl FnMut(Result<Listed, DamagedRow>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        // The follower may merge runs in the meantime.
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
        let ranges = segments.into_iter().flat_map(|(positions, run)| {
            run.zip(hash)
                .and_then(|(run, hash)| self.ranges(&run, hash, query.order))
                .unwrap_or(vec![positions])
        });
        query.pass_on(ranges.flat_map(|positions| log.scan(query, positions)), each)
    }

    /// The positions of the run's events of objects with that hash, each as a range.
    fn ranges(&self, run: &Run, hash: u64, order: Order) -> Option<Vec<RangeInclusive<i64>>> {
        let positions = self.positions(run, hash);
        let positions = positions
            .inspect_err(|error| tracing::warn!(%error, "reading the log instead of the read model"))
            .ok()?;
        let ranges = positions.into_iter().map(|position| position..=position);
        Some(if order == Order::OldestFirst { ranges.collect() } else { ranges.rev().collect() })
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
