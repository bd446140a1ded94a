//! What `check` finds.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    Warning,
    Problem,
}

/// The result of one test.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) status: Status,
    /// What it is about.
    pub(super) about: &'static str,
    /// A sentence.
    pub(super) message: String,
}

impl Finding {
    pub(super) fn ok(about: &'static str, message: impl Into<String>) -> Self {
        Self { status: Status::Ok, about, message: message.into() }
    }

    pub(super) fn warning(about: &'static str, message: impl Into<String>) -> Self {
        Self { status: Status::Warning, about, message: message.into() }
    }

    pub(super) fn problem(about: &'static str, message: impl Into<String>) -> Self {
        Self { status: Status::Problem, about, message: message.into() }
    }
}
