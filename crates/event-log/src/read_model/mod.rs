//! A read model of the event log: which events are about an object, and where in the log a time is.
//!
//! The log has no index on purpose: one over random keys would cost more than all the rest of an append. This
//! one lies beside it, in a file of its own, and is made from the log by a follower that is never waited for. It can be
//! deleted at any time. What it does not cover yet, a query reads from the log itself, and every event that a
//! query gives was read from the log, so an answer is neither stale nor from another log.
//!
//! - `schema.sql`: the tables. `entries`: the entries of a run, sorted and cut into blocks.
//! - `file`: whose the file is. `model`: what is in it. `follower`: what keeps it up to date. `query`: what it is for.

mod entries;
mod error;
mod file;
mod follower;
mod model;
mod query;

#[cfg(test)]
mod tests;

pub use error::ReadModelError;
pub use follower::{Follower, Progress, follow, follow_when_open};
pub use model::ReadModel;
