//! The log's stage: appends what is new, recalls what is known.

use std::sync::{Arc, Mutex};

use contract::{Decision, Record};
use event_log::{self, EventLog, Recorded};

use super::{
    ProcessorError,
    batch::{Chunk, Outcome, Read},
    ownership::Ownership,
};

/// Appends batches to the log, each in one SQLite transaction.
#[derive(Debug)]
pub struct Append<M> {
    log: Arc<Mutex<EventLog>>,
    ownership: Ownership<M>,
}

impl<M> Append<M> {
    pub fn new(log: Arc<Mutex<EventLog>>, ownership: Ownership<M>) -> Self {
        Self { log, ownership }
    }

    /// What the records of the batch became. When this returns, the log holds it.
    pub fn append(&mut self, batch: Vec<Chunk<Read>>) -> Result<Vec<Chunk<Vec<Outcome>>>, ProcessorError> {
        // Held throughout: a partition that is taken up again ends its epoch before it reads the cursor
        // under this lock, so a chunk of an ended epoch can't move the cursor behind its back.
        let mut log = self.log.lock().expect("no holder panics");
        let published = self.ownership.published();
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut appending = Vec::new();
        for chunk in batch {
            if !self.ownership.is_held(chunk.partition, chunk.epoch) {
                continue;
            }
            let place = chunk.with(());
            match chunk.content {
                Read::Known(records) => outcomes.push(recall(&log, &place, records)?),
                Read::New { records, verdicts } => {
                    appending.push(event_log::Chunk {
                        partition: place.partition,
                        next_offset: place.next_offset,
                        verdicts,
                    });
                    outcomes.push(place.with(waiting(records)));
                }
            }
        }
        let mut settled = log.append(appending, &published)?.into_iter();
        Ok(outcomes
            .into_iter()
            .map(|chunk| {
                let place = chunk.with(());
                place.with(match chunk.content {
                    Pending::Known(outcomes) => outcomes,
                    Pending::New(records) => pair(records, settled.next().unwrap_or_default()),
                })
            })
            .collect())
    }
}

/// A chunk's outcomes, or the records that wait for them.
enum Pending {
    Known(Vec<Outcome>),
    New(Vec<Record>),
}

fn waiting(records: Vec<Record>) -> Pending {
    Pending::New(records)
}

fn pair(records: Vec<Record>, settled: Vec<event_log::Settled>) -> Vec<Outcome> {
    records
        .into_iter()
        .zip(settled)
        .map(|(record, settled)| Outcome { record, decision: settled.decision })
        .collect()
}

/// What the log says of records that were decided before, each compared with the one decided.
fn recall(log: &EventLog, place: &Chunk<()>, records: Vec<Record>) -> Result<Chunk<Pending>, ProcessorError> {
    let known = log.recorded(place.partition, place.first_offset..place.next_offset)?;
    let differs = |offset: i64, wanted: &str, found: &str| ProcessorError::TopicDiffers {
        partition: place.partition,
        offset,
        wanted: wanted.to_owned(),
        found: found.to_owned(),
    };
    let mut outcomes = Vec::with_capacity(records.len());
    let mut known = known.into_iter().peekable();
    for record in records {
        let offset = record.coordinates.offset;
        if let Some(missing) = known.next_if(|recorded| recorded.coordinates.offset < offset) {
            return Err(differs(missing.coordinates.offset, &describe(&missing), "no record"));
        }
        let Some(recorded) = known.next_if(|recorded| recorded.coordinates.offset == offset) else {
            return Err(differs(offset, "no record", &summary(&record)));
        };
        if recorded.coordinates != record.coordinates || recorded.checksum != record.checksum() {
            return Err(differs(offset, &describe(&recorded), &summary(&record)));
        }
        outcomes.push(Outcome { record, decision: recorded.decision });
    }
    match known.next() {
        Some(missing) => Err(differs(missing.coordinates.offset, &describe(&missing), "no record")),
        None => Ok(place.with(Pending::Known(outcomes))),
    }
}

fn describe(recorded: &Recorded) -> String {
    let what = match recorded.decision {
        Decision::Accepted(_) => "an event",
        Decision::Duplicate { .. } => "a duplicate",
        Decision::Rejected(_) => "a rejection",
    };
    format!("{what} with timestamp {} and checksum {:08x}", recorded.coordinates.timestamp, recorded.checksum)
}

fn summary(record: &Record) -> String {
    format!("a record with timestamp {} and checksum {:08x}", record.coordinates.timestamp, record.checksum())
}
