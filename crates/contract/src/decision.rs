//! What becomes of a command.

use super::{event::Event, id::ActivityId, key::IdempotencyKey, problem::Problems, record::Coordinates};

/// What a record says by itself, before it is known whether its idempotency key was seen already.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// A valid command; without a key it is an event whatever came before it.
    Valid {
        event: Event,
        key: Option<IdempotencyKey>,
    },
    Rejected(Problems),
}

/// A record's reading with the facts by which the log knows the record again.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub coordinates: Coordinates,
    /// CRC-32C over key, value and headers, by which a re-read record is compared with the one decided.
    pub checksum: u32,
    pub reading: Reading,
}

/// What a command became. Every command becomes exactly one of these.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    Accepted(Event),
    /// The same command came before, and became the activity named here.
    Duplicate {
        of: ActivityId,
    },
    Rejected(Problems),
}

/// What is known so far of what a command becomes.
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
