//! What is wrong with a command.

use serde::{Deserialize, Serialize};

/// One thing that is wrong with a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// JSON Pointer (RFC 6901) into the value; empty for the record as a whole.
    pub pointer: String,
    /// Stable, machine-readable: `wrong_type`, `missing`, ...
    pub code: String,
    /// A sentence that says what was expected and what was found.
    pub message: String,
}

/// All problems of one command; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);
