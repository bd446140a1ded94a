//! The pure stage: what each new record says by itself.

use contract::Decider;

use super::batch::{Chunk, Fetched, Read};

/// Reads what is new; what is known has been decided, and stays so.
#[must_use]
pub fn decide(decider: &Decider, batch: Vec<Chunk<Fetched>>) -> Vec<Chunk<Read>> {
    batch
        .into_iter()
        .map(|chunk| {
            let place = chunk.with(());
            place.with(match chunk.content {
                Fetched::Known(records) => Read::Known(records),
                Fetched::New(records) => {
                    let verdicts = records.iter().map(|record| decider.read(record)).collect();
                    Read::New { records, verdicts }
                }
            })
        })
        .collect()
}
