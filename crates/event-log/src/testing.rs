//! Appending for tests, which pass verdicts and get positions.

use std::iter::zip;

use contract::{Coordinates, Decision, Fate, Verdict};

use crate::append::Stretch;
use crate::error::LogError;
use crate::writer::EventLog;

/// Consecutive records of one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    pub partition: i32,
    pub next_offset: i64,
    pub verdicts: Vec<Verdict>,
}

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    pub coordinates: Coordinates,
    /// The event's position in the log, from 1; `None` if the command did not become an event.
    pub position: Option<i64>,
    pub decision: Decision,
}

impl EventLog {
    /// As [`EventLog::append_batch`]. The result has one list for each chunk.
    pub fn append(
        &mut self,
        chunks: Vec<Chunk>,
        published: &[(i32, i64)],
    ) -> Result<Vec<Vec<Settled>>, LogError> {
        let coordinates: Vec<Vec<Coordinates>> = chunks
            .iter()
            .map(|chunk| chunk.verdicts.iter().map(|verdict| verdict.coordinates).collect())
            .collect();
        let ends: Vec<(i32, i64)> = chunks.iter().map(|chunk| (chunk.partition, chunk.next_offset)).collect();
        let mut fates: Vec<Vec<Fate>> =
            chunks.into_iter().map(|chunk| chunk.verdicts.into_iter().map(Fate::Read).collect()).collect();
        let mut stretches: Vec<Stretch<'_>> = zip(ends, &mut fates)
            .map(|((partition, next_offset), fates)| Stretch { partition, next_offset, fates })
            .collect();
        let mut next_position = self.next_position;
        self.append_batch(&mut stretches, published)?;
        let mut settle = |(coordinates, fate): (Coordinates, Fate)| {
            let Fate::Decided(decision) = fate else { panic!("the log left {fate:?}") };
            let is_event = matches!(decision, Decision::Accepted(_));
            let position = is_event.then_some(next_position);
            next_position += i64::from(is_event);
            Settled { coordinates, position, decision }
        };
        let settled = zip(coordinates, fates);
        Ok(settled.map(|(at, fates)| zip(at, fates).map(&mut settle).collect()).collect())
    }
}
