//! Listing events by object and time without looking through the log.

use std::ops::{ControlFlow, RangeInclusive};

use super::{
    ReadModelError, entries,
    model::{ReadModel, Run},
};
use crate::{DamagedRow, ListQuery, Listed, LogError, LogReader, Order};

/// Where events that the query wants can be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// Everything between two positions has to be looked at.
    Scan(RangeInclusive<i64>),
    /// Only the events about the object in this run.
    Run(Run),
}

impl ReadModel {
    /// As [`LogReader::list`], with the same answer, sooner. Events that the model does not cover yet are
    /// read from the log.
    pub fn list<E: From<ReadModelError> + From<LogError>>(
        &self,
        log: &LogReader,
        query: &ListQuery,
        mut each: impl FnMut(Result<Listed, DamagedRow>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        // The follower may merge runs meanwhile; what is read here stays as it was.
        let _snapshot = self.snapshot()?;
        let last = log.last_position()?;
        // What the model can't say is read from the log.
        let runs = self.runs(log).unwrap_or_else(|error| {
            tracing::warn!(%error, "the log is read instead");
            Vec::new()
        });
        let mut segments = segments(query, &runs, last);
        if query.order == Order::NewestFirst {
            segments.reverse();
        }
        let hash = query.object.as_deref().map(entries::hash_of_object);
        let mut left = query.limit.unwrap_or(u64::MAX);
        for segment in segments {
            let flow = match (segment, hash) {
                (Segment::Run(run), Some(hash)) => match self.positions(&run, hash) {
                    Ok(mut positions) => {
                        if query.order == Order::NewestFirst {
                            positions.reverse();
                        }
                        log.pick(query, &positions, &mut left, &mut each)?
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the log is read instead");
                        log.scan(query, run.first_position..=run.last_position, &mut left, &mut each)?
                    }
                },
                (Segment::Run(Run { first_position, last_position, .. }), None) => {
                    log.scan(query, first_position..=last_position, &mut left, &mut each)?
                }
                (Segment::Scan(positions), _) => log.scan(query, positions, &mut left, &mut each)?,
            };
            if flow.is_break() || left == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// In order of position: the runs that can hold what the query wants, then what no run covers.
fn segments(query: &ListQuery, runs: &[Run], last: i64) -> Vec<Segment> {
    let in_time = |run: &&Run| {
        query.since.is_none_or(|since| run.latest >= since)
            && query.until.is_none_or(|until| run.earliest < until)
    };
    let covered = runs.last().map_or(0, |run| run.last_position);
    let uncovered = (covered < last).then_some(Segment::Scan(covered + 1..=last));
    runs.iter().filter(in_time).copied().map(Segment::Run).chain(uncovered).collect()
}
