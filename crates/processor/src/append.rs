//! The log's stage: appends new commands, and reads the decisions of those that are logged already.

use std::sync::{Arc, Mutex};

use contract::{Decision, Fate, Record};
use event_log::{EventLog, LogError, Recorded, Stretch};

use super::{
    ProcessorError,
    batch::{Batch, Chunk},
    ownership::{Epoch, Ownership},
};

/// The partitions whose commands may be appended.
pub(crate) trait Held {
    /// Whether the partition is held in this epoch.
    fn is_held(&self, partition: i32, epoch: Epoch) -> bool;
    fn append(&self, log: &mut EventLog, stretches: &mut [Stretch<'_>]) -> Result<(), LogError>;
}

impl<M> Held for Ownership<M> {
    fn is_held(&self, partition: i32, epoch: Epoch) -> bool {
        Self::is_held(self, partition, epoch)
    }

    fn append(&self, log: &mut EventLog, stretches: &mut [Stretch<'_>]) -> Result<(), LogError> {
        log.append_batch(stretches, &self.published())
    }
}

/// Appends batches to the log, each in one SQLite transaction.
#[derive(Debug)]
pub(crate) struct Append<H> {
    log: Arc<Mutex<EventLog>>,
    held: H,
}

impl<H: Held> Append<H> {
    pub fn new(log: Arc<Mutex<EventLog>>, held: H) -> Self {
        Self { log, held }
    }

    /// Decides all commands of the batch, after dropping those of partitions that are no longer held. When this returns, the
    /// log has the rest.
    pub fn append(&self, batch: &mut Batch) -> Result<(), ProcessorError> {
        // Locked throughout: a partition that starts again ends its epoch before it reads the cursor under this lock, so a
        // chunk of an ended epoch can't move the cursor after that.
        let mut log = self.log.lock().expect("no holder panics");
        batch.retain(|chunk| self.held.is_held(chunk.partition, chunk.epoch));
        for chunk in batch.iter_mut().filter(|chunk| chunk.is_logged) {
            chunk.fates = recall(&log, chunk)?;
        }
        let new = batch.iter_mut().filter(|chunk| !chunk.is_logged);
        let mut stretches: Vec<_> = new
            .map(|Chunk { partition, next_offset, fates, .. }| Stretch {
                partition: *partition,
                next_offset: *next_offset,
                fates,
            })
            .collect();
        Ok(self.held.append(&mut log, &mut stretches)?)
    }

    /// Checkpoints the log if that is due.
    pub fn checkpoint_if_due(&self) {
        self.log.lock().expect("no holder panics").checkpoint_if_due();
    }
}

/// Reads the earlier decisions from the log, and compares each record with the one that was decided.
fn recall(log: &EventLog, chunk: &Chunk) -> Result<Vec<Fate>, ProcessorError> {
    let known = log.recorded(chunk.partition, chunk.first_offset..chunk.next_offset)?;
    let differs = |offset: i64, wanted: &str, found: &str| ProcessorError::TopicDiffers {
        partition: chunk.partition,
        offset,
        wanted: wanted.to_owned(),
        found: found.to_owned(),
    };
    let mut fates = Vec::with_capacity(chunk.records.len());
    let mut known = known.into_iter().peekable();
    for record in &chunk.records {
        let offset = record.coordinates.offset;
        if let Some(missing) = known.next_if(|recorded| recorded.coordinates.offset < offset) {
            return Err(differs(missing.coordinates.offset, &describe(&missing), "no record"));
        }
        let Some(recorded) = known.next_if(|recorded| recorded.coordinates.offset == offset) else {
            return Err(differs(offset, "no record", &summary(record)));
        };
        if recorded.coordinates != record.coordinates || recorded.checksum != record.checksum() {
            return Err(differs(offset, &describe(&recorded), &summary(record)));
        }
        fates.push(Fate::Decided(recorded.decision));
    }
    match known.next() {
        Some(missing) => Err(differs(missing.coordinates.offset, &describe(&missing), "no record")),
        None => Ok(fates),
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
