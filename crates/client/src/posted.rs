//! What the broker returns for a command.

use std::fmt;

use contract::ActivityId;

/// The broker has the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// It becomes the activity with this id, if it is accepted.
    As(ActivityId),
    /// Its id is unknown, because the broker did not return its offset in this partition. It had the command from an
    /// earlier attempt, or the offset is too large for an id.
    SomewhereIn { partition: i32 },
}

impl Posted {
    /// The id, where it is known.
    #[must_use]
    pub fn id(&self) -> Option<ActivityId> {
        match self {
            Self::As(id) => Some(*id),
            Self::SomewhereIn { .. } => None,
        }
    }
}

impl fmt::Display for Posted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As(id) => id.fmt(f),
            Self::SomewhereIn { partition } => {
                write!(f, "in partition {partition}; the broker does not say where, so its id is unknown")
            }
        }
    }
}
