//! The pure stage: what each new record says by itself.

use contract::{Decider, Fate};

use super::batch::Chunk;

/// Reads what is new; what is logged was decided before, and stays so.
pub(crate) fn decide(decider: &Decider, batch: &mut [Chunk]) {
    for chunk in batch.iter_mut().filter(|chunk| !chunk.is_logged) {
        chunk.fates = chunk.records.iter().map(|record| Fate::Read(decider.read(record))).collect();
    }
}
