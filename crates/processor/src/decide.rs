//! The pure stage: reads each new record, independently of all others.

use contract::{Decider, Fate};

use super::batch::Chunk;

/// Reads new records. Logged ones were decided before, and keep their decisions.
pub(crate) fn decide(decider: &Decider, batch: &mut [Chunk]) {
    for chunk in batch.iter_mut().filter(|chunk| !chunk.is_logged) {
        chunk.fates = decider.read_all(&chunk.records).into_iter().map(Fate::Read).collect();
    }
}
