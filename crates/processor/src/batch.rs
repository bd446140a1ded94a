//! Batches of commands, which the stages pass on and decide on the way.

use contract::{Decision, Fate, Record};

use super::ownership::Epoch;

/// What one pass through the pipeline works on.
pub(crate) type Batch = Vec<Chunk>;

/// Consecutive commands of one partition, all of one epoch. Records and fates are separate: stages only change fates.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub partition: i32,
    pub epoch: Epoch,
    /// Where the chunk before it ended.
    pub first_offset: i64,
    /// Where the next chunk begins: past the last record and the control records after it.
    pub next_offset: i64,
    /// It is below `logged`: its commands were decided before, and the log has their decisions.
    pub is_logged: bool,
    pub records: Vec<Record>,
    /// One per record, filled by the stages.
    pub fates: Vec<Fate>,
}

/// Commands that are all decided.
#[derive(Debug, Clone, Copy)]
pub struct DecidedCommands<'a> {
    records: &'a [Record],
    fates: &'a [Fate],
}

impl<'a> DecidedCommands<'a> {
    pub fn iter(self) -> impl Iterator<Item = (&'a Record, &'a Decision)> {
        let decision = |fate: &'a Fate| fate.decision().expect("the log decided it");
        self.records.iter().zip(self.fates.iter().map(decision))
    }
}

impl Chunk {
    /// The commands in these places of a chunk that went through the log.
    pub fn decided(&self, first: usize, next: usize) -> DecidedCommands<'_> {
        DecidedCommands { records: &self.records[first..next], fates: &self.fates[first..next] }
    }

    /// The command in this place of such a chunk.
    pub fn command(&self, index: usize) -> Option<(&Record, &Decision)> {
        self.decided(index, self.records.len().min(index + 1)).iter().next()
    }
}
