//! The results, as data; the command line prints them.

use std::{fmt, path::PathBuf};

use contract::Coordinates;

use super::VerifyError;

/// The kind of a deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It should exist and does not.
    Lost,
    /// It exists more than once.
    Doubled,
    /// It exists, with other content.
    Altered,
    /// It exists, and no command produces it.
    Foreign,
    /// It exists, and the log does not find it by its offset.
    Misplaced,
    /// A log's own count of its rows is wrong.
    Miscounted,
}

/// The kind of a record or a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Event,
    Duplicate,
    Rejection,
    Notification,
    /// Commands that no log covers.
    Commands,
}

impl What {
    pub(crate) fn with_article(self) -> &'static str {
        match self {
            Self::Event => "an event",
            Self::Duplicate => "a duplicate",
            Self::Rejection => "a rejection",
            Self::Notification => "a notification",
            Self::Commands => "commands",
        }
    }
}

/// Where a deviation was found, or where something is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Logs,
    Log { path: PathBuf, position: Option<i64> },
    Topic { topic: String, at: Option<At> },
}

/// A place in a topic, or the command there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct At {
    pub partition: i32,
    pub offset: i64,
}

impl From<Coordinates> for At {
    fn from(Coordinates { partition, offset, .. }: Coordinates) -> Self {
        Self { partition, offset }
    }
}

/// One deviation from the result of deciding the commands again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    pub kind: Kind,
    pub what: What,
    pub place: Place,
    /// Its command, as far as known.
    pub command: Option<At>,
    /// A notification's id.
    pub id: Option<String>,
    /// A sentence, or part of one, with what was found and what was expected.
    pub details: String,
}

/// Something that could not be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchecked {
    pub topic: String,
    pub partition: i32,
    /// Everything that could not be checked is within `first_offset..next_offset`.
    pub first_offset: i64,
    pub next_offset: i64,
    /// The number of records or commands, if known.
    pub count: Option<u64>,
    pub reason: Reason,
}

/// Why something could not be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    NoOffset,
    ForeignOffset,
    Undecided,
    CommandsDeleted,
    NoWitness,
    KeyForgotten,
    OutputDeleted,
    HeldBack,
    OutputHeldBack,
    LimitUnknown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoOffset => "the group has no committed offset here, so it is unknown what must be published",
            Self::ForeignOffset => {
                "the processor did not commit the group's offset here: another consumer is in the group, or somebody set \
                 the offset, so it does not say what must be published; only what the logs have seen published was \
                 checked. Start the processor, which says what to do"
            }
            Self::Undecided => {
                "these records were deleted before the group reached them: any command among them was deleted before it \
                 was decided"
            }
            Self::CommandsDeleted => {
                "the topic no longer holds these commands, so they could not be decided again: the log was \
                 trusted"
            }
            Self::NoWitness => "neither the topic nor a log holds these commands",
            Self::KeyForgotten => {
                "their idempotency key may have been used by a command that the topic no longer holds: a log that knew \
                 that command was trusted, and another log may differ"
            }
            Self::OutputDeleted => "the output of these commands is not there, and may have been deleted",
            Self::HeldBack => {
                "these records could not be read: an open transaction holds them back, or the brokers do not answer"
            }
            Self::OutputHeldBack => {
                "the output of these commands is not there, and may be among what could not be read"
            }
            Self::LimitUnknown => {
                "these rejections omit a part of their command, or another part than the topic's present \
                 max.message.bytes asks for; the setting at the time of publishing is unknown"
            }
        })
    }
}

/// The counts at the end of a check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events, duplicates and rejections together.
    pub commands: u64,
    pub events: u64,
    pub duplicates: u64,
    pub rejections: u64,
    /// Notifications of all events.
    pub notifications: u64,
    pub deviations: u64,
    /// Counted in ranges, not in records.
    pub unchecked: u64,
}

/// Receives every result as soon as it is known.
pub trait Report {
    fn deviation(&mut self, deviation: &Deviation) -> Result<(), VerifyError>;
    fn unchecked(&mut self, unchecked: &Unchecked) -> Result<(), VerifyError>;
    /// Adds to the number of records that will be read.
    fn ahead(&mut self, records: u64);
    /// This number of records was read.
    fn advanced(&mut self, records: u64);
}
