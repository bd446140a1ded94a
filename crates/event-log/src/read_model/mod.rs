//! The read model of the event log: an index of events by object and time.
//!
//! The log has no index on purpose: with random keys it would cost more than the rest of an append. The read model is a
//! file beside the log, which a follower builds from the log; nothing waits for it. You can delete it at any time. A query
//! reads events that it does not cover yet from the log, and all events that a query returns are read from the log, so an
//! answer is neither stale nor from another log.
//!
//! - `schema.sql`: the tables. `entries`: the blocks of a run.
//! - `file`: whose file it is. `model`: its content. `follower`: updates it. `query`: uses it.

mod entries;
mod error;
mod file;
mod follower;
mod model;
mod query;

#[cfg(test)]
mod tests;

pub use error::ReadModelError;
pub use follower::{Follower, Progress, Unopened, follow_when_open};
pub use model::ReadModel;
