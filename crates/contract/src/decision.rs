//! Verdicts, which depend on the record alone, and decisions, which also depend on earlier commands.

use crate::{
    code::Code,
    event::Event,
    id::ActivityId,
    idempotency::{Claim, IdempotencyKey},
    problem::Problems,
    record::Coordinates,
};

/// Whether a record is a valid command, before its idempotency key is looked up.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are valid")]
pub enum Reading {
    /// Without a key, the command is accepted whatever came before it.
    Valid {
        event: Event,
        key: Option<IdempotencyKey>,
    },
    Rejected(Problems),
}

/// A record's reading, with what the log needs to recognize the record when it is read again.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub coordinates: Coordinates,
    /// [`Record::checksum`](crate::Record::checksum).
    pub checksum: u32,
    pub reading: Reading,
}

/// The outcome of a command. Every command has exactly one.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are accepted")]
pub enum Decision {
    Accepted(Event),
    /// The same command already became activity `of`.
    Duplicate {
        of: ActivityId,
    },
    Rejected(Problems),
}

/// Decides a valid command: accepts it, unless a command with the same key was accepted within the window.
///
/// `claim` is what an earlier command with that key left, and `clock` the highest record timestamp seen in the
/// partition, including this record's. A claim is valid while `clock - claim.last_seen < window_ms`, all in
/// milliseconds.
#[must_use]
pub fn settle(
    event: Event,
    key: Option<IdempotencyKey>,
    claim: Option<&Claim>,
    clock: i64,
    window_ms: i64,
) -> Decision {
    let (Some(key), Some(claim)) = (key, claim) else { return Decision::Accepted(event) };
    let expired = clock.saturating_sub(claim.last_seen) >= window_ms;
    if expired {
        Decision::Accepted(event)
    } else if key.has_content_of(claim) {
        Decision::Duplicate { of: claim.first }
    } else {
        let message = format!(
            "the idempotency key was already used for activity {}, with other content; use another key for other content",
            claim.first
        );
        Decision::Rejected(Problems::one(Code::IdempotencyKeyReused, message))
    }
}

/// The state of a decision: what is known so far about the outcome of a command.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Fate {
    #[default]
    Undecided,
    /// Its record was read, and the log is to decide by the idempotency window.
    Read(Verdict),
    Decided(Decision),
}

impl Fate {
    #[must_use]
    pub fn decision(&self) -> Option<&Decision> {
        match self {
            Self::Decided(decision) => Some(decision),
            Self::Undecided | Self::Read(_) => None,
        }
    }
}
